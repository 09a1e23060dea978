"""The picture: what is drawn, the same bytes from the same runs, and nothing that a run may hold breaks it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from snnsc.compare import picture
from snnsc.compare.arms import Arm, group
from snnsc.compare.picture import accuracy_by_epoch, draw, gradient_sums
from snnsc.compare.runs import Histogram, read_run
from snnsc.compare.spread import Spread
from snnsc.errors import ModelFileError

from .lines import EDGES

Write = Callable[..., Path]
EVOLUTIONARY = "method={mode='evolutionary'}"


@pytest.fixture
def arms(write_run: Write) -> tuple[Arm, ...]:
    runs = [read_run(write_run(f"plain/seed-{s}", [0.3, 0.4 + s / 10], f"seed={s}")) for s in range(2)]
    runs.append(read_run(write_run("fading", [0.5], EVOLUTIONARY)))
    return group(runs)


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch) -> list[mpl.axes.Axes]:
    """The axes of the last picture."""
    found: list[mpl.axes.Axes] = []
    subplots = matplotlib.figure.Figure.subplots

    def spy(self: matplotlib.figure.Figure, *args: int) -> object:
        made = subplots(self, *args)
        found[:] = list(made)
        return made

    monkeypatch.setattr(matplotlib.figure.Figure, "subplots", spy)
    return found


def test_means_are_over_the_epochs_that_all_runs_have(arms: tuple[Arm, ...], write_run: Write) -> None:
    assert accuracy_by_epoch(arms[0]) == [
        Spread(0.3, 0.0, 2),
        Spread(pytest.approx(0.45), pytest.approx(0.1 / 2**0.5), 2),
    ]
    late = read_run(write_run("late", [0.3], "seed=9"))
    assert len(accuracy_by_epoch(Arm("x", (*arms[0].runs, late)))) == 1


def test_histograms_add_up_over_epochs_and_runs(arms: tuple[Arm, ...]) -> None:
    assert gradient_sums(arms[0]) == Histogram(tuple(EDGES), (4, 8, 0), 16, (0, 8, 4))


def test_histograms_of_other_bins_do_not_add_up(arms: tuple[Arm, ...], write_run: Write) -> None:
    histogram = {"edges": [1, 2], "negative": [1], "zero": 0, "positive": [1]}
    other = read_run(write_run("other", [0.5], "seed=9", first_layer_gradient=histogram))
    with pytest.raises(ModelFileError, match="other: its first_layer_gradient has other edges"):
        draw([Arm("x", (*arms[0].runs, other))])


def test_what_is_drawn(arms: tuple[Arm, ...], panels: list[mpl.axes.Axes]) -> None:
    draw(arms)
    left, right = panels
    assert [list(line.get_ydata()) for line in left.lines] == [[30.0, pytest.approx(45.0)], [50.0]]
    (band,) = left.collections  # the single run has none
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == 30.0
    assert heights.max() == pytest.approx(45 + 10 / 2**0.5)
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["plain (2 seeds)", "fading (1 seed)"]
    plain, fading = right.patches
    values, places, _ = plain.get_data()
    # bins of a decade around a middle of one; counts -: 1 2 0, 0: 4, +: 0 2 1 of 10
    assert list(values) == pytest.approx([0, 20, 10, 0, 0, 20, 10])
    assert list(places) == pytest.approx([-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5])
    assert list(fading.get_data().values) == pytest.approx(list(values))
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["plain (0: 40.0 %)", "fading (0: 40.0 %)"]
    assert [text.get_text() for text in right.get_xticklabels()][len(right.get_xticks()) // 2] == "0"


def test_axes_hold_no_empty_bins(write_run: Write, panels: list[mpl.axes.Axes]) -> None:
    histogram = {"edges": [1e-9, 1e-4, 1e-3, 1e9], "negative": [0, 3, 0], "zero": 1, "positive": [0, 1, 0]}
    draw(group([read_run(write_run("a", [0.5], first_layer_gradient=histogram))]))
    values, places, _ = panels[1].patches[0].get_data()
    assert list(values) == pytest.approx([60, 0, 20])
    assert list(places) == pytest.approx([-1.5, -0.5, 0.5, 1.5])


def test_the_same_runs_give_the_same_bytes_whatever_the_settings(
    arms: tuple[Arm, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = draw(arms)
    monkeypatch.setitem(mpl.rcParams, "axes.facecolor", "black")
    monkeypatch.setitem(mpl.rcParams, "font.size", 30)
    assert draw(arms) == first
    with Image.open(io.BytesIO(first)) as image:
        assert image.format == "PNG"
        assert image.size == (1440, 576)
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels[0, 0] == 255).all()
    for colour in picture.COLOURS[:2]:
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (pixels == wanted).all(-1).sum() > 100, colour


def test_older_runs_leave_the_right_panel_empty_with_a_note(write_run: Write, panels: list[mpl.axes.Axes]) -> None:
    old, new = write_run("old", [0.5]), write_run("new", [0.5], EVOLUTIONARY)
    found = json.loads((old / "metrics.jsonl").read_text())
    del found["first_layer_gradient"]
    (old / "metrics.jsonl").write_text(json.dumps(found) + "\n")
    draw(group([read_run(old)]))
    assert [text.get_text() for text in panels[1].texts] == ["not recorded by these runs;\ntrain again with this snnsc"]
    draw(group([read_run(old), read_run(new)]))
    assert [text.get_text() for text in panels[1].get_legend().get_texts()] == ["old: not recorded", "new (0: 40.0 %)"]


def test_a_starved_layer_is_said_to_be(write_run: Write, panels: list[mpl.axes.Axes]) -> None:
    histogram = {"edges": [1e-9, 1], "negative": [0], "zero": 7, "positive": [0]}
    draw(group([read_run(write_run("a", [0.5], first_layer_gradient=histogram))]))
    assert [text.get_text() for text in panels[1].texts] == ["all gradients are 0"]


def test_labels_that_fonts_and_formulas_do_not_like(arms: tuple[Arm, ...], panels: list[mpl.axes.Axes]) -> None:
    label = r"_$\frac{ 日本 \n"
    draw([Arm(label, arms[0].runs)])
    assert panels[0].get_legend().get_texts()[0].get_text() == f"{label} (2 seeds)"


def test_more_arms_than_colours(arms: tuple[Arm, ...], panels: list[mpl.axes.Axes]) -> None:
    draw([Arm(f"arm {i}", arms[0].runs) for i in range(20)])
    styles = {(line.get_color(), line.get_linestyle()) for line in panels[0].lines}
    assert len(styles) == 20
