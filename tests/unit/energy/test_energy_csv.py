"""`--csv`: a row a layer, that a spreadsheet can open safely."""

from __future__ import annotations

import csv
import io

from snnsc.energy.counting.counts import Counts
from snnsc.energy.report.table import to_csv

from .hand import made, report


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_every_layer_is_a_row_with_the_figures_of_the_report():
    found = report(made())
    rows = read(to_csv([found]))
    assert [row["name"] for row in rows] == ["conv1", "lif1", "conv2", "lif2"]
    assert {row["model"] for row in rows} == {"net.onnx"}
    for row, layer in zip(rows, found["layers"], strict=True):
        assert float(row["events"]) == layer["events"]
        assert float(row["spikes_std"] or 0) == layer["std"].get("spikes", 0)
        assert row["firing_rate"] == ("" if layer["firing_rate"] is None else str(layer["firing_rate"]))
    for entry in found["energy"]:
        if entry["layers"] is not None:
            total = sum(float(row[f"{entry['model']}_pj"]) for row in rows)
            assert abs(total - entry["snn_pj"]) < 1e-9 * total
        else:
            assert f"{entry['model']}_pj" not in rows[0]


def test_layers_of_several_networks_stand_below_each_other():
    reports = [report(made(), "a.onnx"), report(made(seed=4), "b.onnx")]
    rows = read(to_csv(reports))
    assert [row["model"] for row in rows] == ["a.onnx"] * 4 + ["b.onnx"] * 4
    assert all(None not in row and None not in row.values() for row in rows)


def test_a_name_is_neither_a_formula_nor_a_new_line():
    names = ('=HYPERLINK("http://x")', "+1", 'a,b\n"c"', "@SUM(A1)")
    rows = read(to_csv([report(made(names), "-net.onnx")]))
    assert [row["name"] for row in rows] == ['\'=HYPERLINK("http://x")', "'+1", 'a,b\\n"c"', "'@SUM(A1)"]
    assert {row["model"] for row in rows} == {"'-net.onnx"}


def test_a_network_without_layers_is_a_header():
    assert to_csv([report(Counts(1, ()))]).startswith("model,name,")
