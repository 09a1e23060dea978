"""Numbers and findings in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from snnsc.energy.counting.counts import Counts
from snnsc.energy.report import fits, wording

from .hand import made, report, without_samples

MISSING = {"op": "Softmax", "reason": "operator Softmax is not known", "count": 2, "nodes": ["a", "b"], "share": 0.042}
BROKEN = {"value": "x", "kind": "binary", "elements": 12, "samples": 3}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "?"), (0, "-"), (0.2, "<1"), (7, "7"), (9_999.4, "9,999"), (9_999.6, "10.00 k"),
        (203_705.25, "203.71 k"), (999_994, "999.99 k"), (999_996, "1.00 M"), (1.18e6, "1.18 M"), (4e9, "4.00 G"),
        (5e13, "50,000.00 G"),
    ],
)  # fmt: skip
def test_number(value, text):
    assert wording.number(value) == text


@pytest.mark.parametrize(
    ("picojoules", "text"),
    [
        (None, "?"), (0.0, "0.000 pJ"), (0.23, "0.230 pJ"), (999.0, "999.0 pJ"), (999.96, "1.000 nJ"),
        (345_021, "345.0 nJ"), (2.759e6, "2.759 uJ"), (16.4e6, "16.40 uJ"), (9.184e9, "9.184 mJ"), (3e12, "3.000 J"),
    ],
)  # fmt: skip
def test_energy(picojoules, text):
    assert wording.energy(picojoules) == text


@pytest.mark.parametrize(
    ("share", "text"), [(None, "?"), (0.0, "0.00 %"), (1e-6, "< 0.01 %"), (0.1203, "12.03 %"), (1.0, "100.00 %")]
)
def test_percent(share, text):
    assert wording.percent(share) == text


def test_names_of_files_are_written_out_where_they_cannot_be_seen():
    assert wording.printable("a\x1b[31mb\n\u202ec\u200b\udcff\u00e4") == "a\\x1b[31mb\\n\\u202ec\\u200b\\udcff\u00e4"


def test_what_is_not_counted_is_a_sentence_with_what_it_may_hide():
    found = report(made(not_counted=(MISSING,)))
    (line,) = wording.findings(found)
    assert line == "not counted: 2 nodes Softmax, at most 4.20 % of the compute: operator Softmax is not known (a, b)"
    other = {**MISSING, "op": "Einsum", "share": 0.5}
    assert "together they hide at most 54.20 % of the compute" in wording.findings(
        report(made(not_counted=(MISSING, other)))
    )
    unknown = {**MISSING, "share": None}
    first, _, both = wording.findings(report(made(not_counted=(unknown, other))))
    assert "how much they hide is not known" in first
    assert "lower bounds" in both


def test_shares_of_more_than_the_whole_are_the_whole():
    groups = [{**MISSING, "share": 0.9}, {**MISSING, "share": 0.8}]
    assert "at most 100.00 %" in wording.hidden(groups)


def test_a_broken_promise_is_a_sentence():
    (line,) = wording.findings(report(made(violations=(BROKEN,))))
    assert "spikes, 0 or 1 in x" in line
    assert "12 elements in batches of 3 samples" in line
    assert "{" not in line


def test_neurons_without_a_price_make_the_energy_a_lower_bound():
    counts = made()
    strange = replace(counts, layers=(*counts.layers[:-1], replace(counts.layers[-1], op="Mystery")))
    (line,) = wording.findings(report(strange))
    assert "lower bound" in line
    assert "Mystery" in line


def test_what_was_stripped_is_said():
    (line,) = wording.findings(report(made(), stripped=("shortcuts.a", "shortcuts.b")))
    assert "2 tensors" in line
    assert "shortcuts.a, shortcuts.b" in line
    assert "costs nothing at inference" in line


@pytest.mark.parametrize("text", [None, "", "{", "3", '"a"', '{"a": 1}', "[1, 2]", "[" * 100_000])
def test_metadata_of_others_are_no_list_of_names(text):
    assert wording.strings(text) == []


def test_many_names_are_cut():
    assert wording.names([f"n{i}" for i in range(6)]) == "n0, n1, n2, n3 and 2 more"
    assert wording.names(["a"]) == "a"


def test_chips_without_a_price_are_named_in_one_line():
    (line,) = wording.unpublished(report(made()))
    assert "loihi2" in line
    assert "speck" in line
    assert "horowitz" not in line


def test_the_headline_is_arithmetic_in_32_bits_where_it_is_there():
    found = report(made())
    assert wording.headline(found)["model"] == "horowitz-fp32"
    found["energy"] = [entry for entry in found["energy"] if entry["model"] in ("speck", "loihi")]
    assert wording.headline(found)["model"] == "loihi"


def test_shares_of_an_energy_add_up():
    entry = {"snn_pj": 100.0, "terms": {"mac_pj": 30.0, "ac_pj": 60.0, "neuron_pj": 10.0, "spike_pj": 0.0}}
    assert wording.shares(entry) == "ac 60 %, mac 30 %, neuron 10 %"
    assert wording.shares({**entry, "snn_pj": None}) == "", "of a bound, parts are missing"


def test_spiking_networks_without_samples_are_not_called_without_spikes():
    found = report(without_samples(made()), source="none")
    for entry in found["energy"]:
        entry |= {"snn_pj_bound": None, "ann_pj": None} if entry["kind"] == "event" else {}
    (line, *_) = wording.unpublished(found)
    assert "give --inputs" in line
    assert "no spiking layers" not in line


def test_a_step_model_is_told_to_be_one_step():
    found = report(made())
    assert not any("one time step" in line for line in wording.findings(found))
    found["origin"] |= {"artifact": "step", "time_steps": "4"}
    assert any("one of T = 4 steps" in line for line in wording.findings(found))


def test_equal_information_is_compared_at_one_number_format():
    found = report(made())
    (entry,) = [entry for entry in found["energy"] if entry["model"] == "horowitz-int8"]
    line = wording.equal(found)
    assert "T = 4 steps of spikes tell apart what 3 bits do" in line
    assert f"SNN / ANN {entry['equal']['ratio']:.3f}" in line
    assert wording.equal(report(Counts(1, ()))) == ""


@pytest.mark.parametrize(
    ("check", "text"),
    [
        ({"needed": 4106, "available": 256, "unit": "neurons", "detail": "17 chips would hold them"},
         "cores: 4,106, at most 256 neurons (17 chips would hold them)"),
        ({"needed": 32.5, "available": 9, "unit": "KiB", "detail": ""}, "cores: 32.5, at most 9 KiB"),
        ({"needed": None, "available": 9, "unit": "KiB", "detail": "not known"}, "cores: not known"),
    ],
)  # fmt: skip
def test_a_limit_in_words(check, text):
    assert fits.limit({"name": "cores", "short": "", **check}) == text


def test_why_a_network_does_not_fit():
    check = {"name": "cores", "verdict": "does not fit", "needed": 3, "available": 2, "unit": "cores", "detail": ""}
    check["short"] = ""
    entry = {"checks": [check], "more_chips": True, "cores_used": 3, "cores": 2}
    assert fits.fit_reasons(entry) == ["cores: 3, at most 2 cores", "more chips would help"]
    assert fits.fit_reasons({**entry, "more_chips": False}) == ["cores: 3, at most 2 cores"]
    good = {**entry, "checks": [{**check, "verdict": "fits"}], "more_chips": None, "cores": 128}
    assert fits.fit_reasons(good) == ["3 of 128 cores"]
    open_ = {**good, "checks": [{**check, "verdict": "not checked"}]}
    assert fits.fit_reasons(open_) == ["3 of 128 cores", "not checked: cores"]
