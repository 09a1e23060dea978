"""The page in a browser, on a phone and on a desk, dark and light; skips where there is no Chromium to drive."""

from __future__ import annotations

import shutil

import pytest

from snnsc.energy.report.html import page

from .hand import networks

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'snnsc[peers]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on the PATH"),
]

LOOK = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  let worst = [21, ""];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, box = e.getBoundingClientRect();
    if (!walk.currentNode.data.trim() || box.width < 2 || !e.checkVisibility()) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < worst[0]) worst = [contrast, e.outerHTML.slice(0, 200)];
  }
  const wide = [...document.querySelectorAll("body *")].filter(e =>
    !e.closest(".box, .hidden, svg") && e.getBoundingClientRect().right > innerWidth + 0.5);
  return {
    width: document.documentElement.scrollWidth, contrast: worst, wide: wide.map(e => e.outerHTML.slice(0, 200)),
    nested: document.querySelectorAll("rect *, line *").length,
    cut: [...document.querySelectorAll(".told, .told th, .told td")].filter(e => e.checkVisibility())
      .map(e => e.tagName == "TABLE" ? e.parentElement : e)
      .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.outerHTML.slice(0, 300)),
    unnamed: [...document.querySelectorAll("svg, [role=region]")].filter(e => !e.getAttribute("aria-label")).length,
  };
}"""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.parametrize("names", ["measured", "dense", "ann measured hostile long"], ids=["one", "dense", "several"])
def test_the_page_fits_every_screen_and_can_be_read(browser, tmp_path, names):
    found = networks()
    file = tmp_path / "report.html"
    file.write_text(page([found[name] for name in names.split()], "1.0"), encoding="utf-8")
    shown = browser.new_page()
    said: list[str] = []
    asked: list[str] = []
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto(file.as_uri())
    shown.eval_on_selector_all("details", "all => all.forEach(e => e.open = true)")
    for width, scheme in ((390, "light"), (1280, "dark"), (420, "dark"), (1280, "light")):
        shown.set_viewport_size({"width": width, "height": 800})
        shown.emulate_media(color_scheme=scheme)
        look = shown.evaluate(LOOK)
        assert look["width"] <= width
        assert look["wide"] == []
        assert width == 1280 or look["cut"] == []
        assert look["contrast"][0] >= 4.5, look["contrast"]
        assert look["unnamed"] == look["nested"] == 0
    assert said == []
    assert asked == [file.as_uri()]
    shown.close()


def test_views_are_switched_by_pointer_and_by_keyboard(browser, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page([networks()["measured"]], "1.0"), encoding="utf-8")
    shown = browser.new_page()
    shown.goto(file.as_uri())
    visible = "() => [...document.querySelectorAll('.switch .panel')].map(e => e.checkVisibility())"
    panels = shown.evaluate(visible)
    assert panels == [True] + [False] * (len(panels) - 1)
    shown.get_by_text("energy: horowitz-fp32", exact=True).click()
    chosen = shown.evaluate(visible).index(True)
    assert chosen > 0
    shown.keyboard.press("ArrowRight")
    assert shown.evaluate(visible).index(True) == chosen + 1
    shown.close()
