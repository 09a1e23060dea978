"""The page: what it holds, and that names in a file cannot become part of it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from snnsc.energy.report import wording
from snnsc.energy.report.html import page
from snnsc.energy.report.markup import Markup, element, join, name

from .hand import made, networks, report

VOID = {"meta", "input", "wbr"}
HOSTILE = (
    '<script>alert(1)</script>',
    '"><img src=http://x/y onerror=alert(1)>',
    "</style></title><svg/onload=alert(1)>&amp;'\u202e\x00",
    "a" * 3000,
)  # fmt: skip


class Page(HTMLParser):
    """Elements, attributes and text of a page; fails where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_is_sound_and_needs_nothing_else():
    for found in networks().values():
        text = page([found], "1.2.3")
        made_page = Page(text)
        assert text.startswith('<!doctype html>\n<html lang="en">')
        assert not {tag for tag, _ in made_page.elements} & {"script", "img", "link", "iframe", "a", "base", "object"}
        assert not re.search(r"url\(|@import|javascript:", text)
        assert not [a for _, attributes in made_page.elements for a in attributes if a.startswith("on")]
        policy = [a["content"] for a in made_page.of("meta") if a.get("http-equiv") == "Content-Security-Policy"]
        assert policy
        assert policy[0].startswith("default-src 'none'; style-src 'unsafe-inline'")
        names = [a["id"] for _, a in made_page.elements if "id" in a]
        assert len(names) == len(set(names))
        assert {a["for"] for a in made_page.of("label")} == {a["id"] for a in made_page.of("input")}
        assert "snnsc 1.2.3" in made_page.text


def test_every_figure_of_the_report_is_on_the_page():
    from snnsc.energy.report.wording import energy, number, price, ratio

    found = networks()["measured"]
    text = Page(page([found], "1")).text
    for row in found["layers"]:
        assert row["name"] in text
    for entry in found["energy"]:
        assert entry["model"] in text
        assert entry["summary"] in text
        assert price(entry) in text or entry["kind"] == "not-published"
        assert ratio(entry["ratio"]) in text
        for line in entry["assumptions"]:
            assert line in text
        for quantity in entry["constants"].values():
            assert quantity["source"] in text
            assert quantity["grade"] in text
        for picojoules in (entry["layers"] or {}).values():
            assert energy(picojoules) in text or not picojoules
    assert number(found["totals"]["events"]) in text
    for chip in found["fit"]:
        assert all(check["source"] in text and check["name"] in text for check in chip["checks"])
    assert "counted on 7 samples at export: test" in text
    assert found["graph"] in text


def test_hostile_names_stay_text():
    made_page = Page(page([networks()["hostile"], networks()["measured"]], "1"))
    assert "<script>alert(1)</script>" in made_page.text
    assert "\u202e" not in made_page.text
    assert "\x00" not in made_page.text
    assert "\\u202e\\x00" in made_page.text
    assert {tag for tag, _ in made_page.elements} <= {
        *("html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section", "h1", "h2", "h3"),
        *("p", "dl", "dt", "dd", "div", "table", "caption", "thead", "tbody", "tr", "th", "td", "ol", "ul", "li"),
        *("span", "i", "svg", "rect", "line", "fieldset", "legend", "input", "label", "details", "summary", "code"),
        "wbr",
    }


def test_the_heat_map_has_a_cell_for_each_layer_and_step():
    found = networks()["measured"]
    titles = [a["title"] for a in Page(page([found], "1")).of("td") if "title" in a]
    lif1 = found["layers"][1]
    assert len(titles) == 2 * 4
    assert titles[:4] == [f"step {t + 1}: {100 * n / 48:.2f} %" for t, n in enumerate(lif1["steps"]["spikes"])]


def test_many_steps_are_averaged_in_the_heat_map():
    found = networks()["long"]
    titles = [a["title"] for a in Page(page([found], "1")).of("td") if "title" in a]
    assert len(titles) == 2 * 60
    first = sum(found["layers"][1]["steps"]["spikes"][:5]) / 5 / 48
    assert titles[0] == f"step 1-5: {100 * first:.2f} %"
    assert titles[59].startswith("step 296-300: ")


def test_without_samples_the_page_says_so_and_gives_bounds():
    text = Page(page([networks()["dense"]], "1")).text
    assert "no samples: dense counts and upper bounds only" in text
    assert "<= " in text
    assert "Firing rate by layer" not in text


def test_several_networks_are_relative_to_the_first():
    other = report(made(seed=8), "other.onnx")
    text = Page(page([networks()["measured"], other], "1")).text
    ratio = other["totals"]["events"] / networks()["measured"]["totals"]["events"]
    assert f"(x {ratio:.3f})" in text
    first = networks()["measured"]["totals"]["events"]
    assert f"<td>{wording.number(first)}</td>" in page([networks()["measured"], other], "1"), (
        "the first has nothing beside it"
    )
    assert text.count("SNN / ANN twin") == 3, "of each network, and side by side"
    assert f"{other['network']['firing_rate']['mean']:.2%}".replace("%", " %") in text
    assert "other.onnx: counted on 7 samples" in text


def test_text_is_escaped_and_markup_is_not():
    inner = element("b", "<&\"'>")
    assert inner == "<b>&lt;&amp;&quot;&#x27;&gt;</b>"
    assert element("p", inner, ["x<", inner], class_='a"b', hidden=True, id_=None, title="\n") == (
        f'<p class="a&quot;b" hidden title="\\n">{inner}x&lt;{inner}</p>'
    )
    assert isinstance(join("<", inner), Markup)
    assert element("wbr") == "<wbr>"
    assert name("a/b.c<") == "a/<wbr>b.<wbr>c&lt;"
