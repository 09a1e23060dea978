"""Target files: what ships, what a user may write, and what every mistake says."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path

import pytest

from snnsc.energy.pricing.schema import EventTarget, Quantity, Sourced
from snnsc.energy.pricing.targets import find_targets, load_targets, read_target
from snnsc.errors import RecipeError

FOLDER = resources.files("snnsc.energy.pricing") / "targets"
FILES = sorted(FOLDER.iterdir(), key=lambda file: file.name)
NAMES = [file.name.removesuffix(".toml") for file in FILES]
GRADES = {"measured", "simulated", "vendor", "secondary"}

OWN = """
name = "mine"
summary = "a chip of mine"
kind = "event"

[synaptic_event]
value = 2
unit = "pJ"
source = "my own lab book, page 7"
process = "28 nm"
grade = "measured"
"""


@pytest.fixture
def own(tmp_path):
    """Writes a target file with one replacement."""

    def write(old: str = "", new: str = "") -> Path:
        assert old in OWN
        (tmp_path / "my.toml").write_text(OWN.replace(old, new) if old else OWN + new, encoding="utf-8")
        return tmp_path / "my.toml"

    return write


def test_what_ships():
    assert {t.name for t in load_targets()} == {
        *("horowitz-fp32", "horowitz-fp16", "horowitz-int8", "lemaire"),
        *("loihi", "truenorth", "spinnaker", "spinnaker2", "darwin3", "tianjic", "odin"),
        *("loihi2", "speck", "akida", "brainscales2"),
    }
    assert [t.kind for t in load_targets()] == ["arithmetic"] * 3 + ["memory"] + ["event"] * 7 + ["not-published"] * 4


@pytest.mark.parametrize("name", NAMES)
def test_every_number_carries_its_source_and_unit(name):
    """Of the file itself: each table that holds a number, bar counts of operations, tells where it is from."""
    (target,) = find_targets([name])
    tables = tomllib.loads(
        (resources.files("snnsc.energy.pricing") / "targets" / f"{name}.toml").read_text(encoding="utf-8")
    )
    assert tables["name"] == name
    assert tables.keys() & {"multiply", "synaptic_event", "reason"}
    for key, quantity in target.constants.items():
        assert isinstance(quantity, Quantity)
        assert quantity.unit in {"pJ", "mW", "pJ / bit"}, key
        assert len(quantity.source) > 20, key
        assert quantity.process, key
        assert quantity.grade in GRADES, key
    for key, table in tables.get("limits", {}).items():
        assert isinstance(getattr(target.limits, key), Sourced)
        assert table.keys() & {"value", "values", "kernel_words"}, key
        assert len(table["source"]) > 20, key
        assert table["grade"] in GRADES, key
    loose = {key for key, value in tables.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    assert loose <= {"bits", "queue_words"}


def test_what_is_not_published_says_why():
    for target in load_targets():
        if target.kind == "not-published":
            assert target.reason
            assert target.source
            assert not target.constants
            assert target.limits is not None


def test_published_figures():
    """The figures as the design notes have them."""
    figures = {t.name: t.synaptic_event.value for t in load_targets() if isinstance(t, EventTarget)}
    assert figures["loihi"] == 23.6
    assert figures["darwin3"] == 5.47
    assert figures["tianjic"] == 1.54
    assert figures["odin"] == 12.7
    loihi, truenorth, odin = find_targets(["loihi", "truenorth", "odin"])
    assert (loihi.active_update.value, loihi.inactive_update.value, loihi.spike.value) == (81, 52, 1.7)
    assert {q.grade for q in loihi.constants.values()} == {"simulated"}
    assert odin.includes_static
    low, high, neurons = (11.58, 68.0), (95.93, 94.0), 1_048_576  # Hz, mW, of figure 17
    rates = [hertz * neurons * 128 for hertz, _ in (low, high)]
    slope = (high[1] - low[1]) / (rates[1] - rates[0])
    assert truenorth.synaptic_event.value == pytest.approx(slope * 1e9, rel=1e-3)
    assert truenorth.static_power.value == pytest.approx(low[1] - slope * rates[0], rel=1e-3)


def test_a_file_of_ones_own(own):
    target = read_target(own())
    assert isinstance(target, EventTarget)
    assert (target.name, target.synaptic_event.value, target.synaptic_event.voltage) == ("mine", 2.0, None)
    assert load_targets(own())[-1] == target
    assert find_targets(["loihi", str(own()), "loihi"]) == (*find_targets(["loihi"]), target)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('kind = "event"', 'kind = "evnt"', "kind: must be one of arithmetic, memory, event, not-published, not"),
        ('kind = "event"\n', "", "kind: must be one of arithmetic"),
        ("[synaptic_event]", "[synaptic_events]", "synaptic_events: unknown key (did you mean 'synaptic_event'?)"),
        ("[synaptic_event]", "[other.synaptic_event]", "synaptic_event: missing; a number is a table: { value"),
        ('source = "my own lab book, page 7"\n', "", "synaptic_event.source: missing"),
        ("my own lab book, page 7", " \\t", 'synaptic_event.source: must be some words, not " \\t"'),
        ("my own lab book, page 7", "", 'synaptic_event.source: must be some words, not ""'),
        ('unit = "pJ"', 'unit = "nJ"', "synaptic_event.unit: must be 'pJ', not \"nJ\""),
        ('grade = "measured"', 'grade = "guessed"', "synaptic_event.grade: must be 'measured', 'simulated', 'vendor'"),
        ("value = 2", 'value = "2"', 'synaptic_event.value: must be a valid number, not "2"'),
        ("value = 2", "value = -2", "synaptic_event.value: must be greater than or equal to 0, not -2"),
        ("value = 2", "value = nan", "synaptic_event.value: must be a finite number"),
        ("value = 2", "value = 2\nvlotage = 0.9", "synaptic_event.vlotage: unknown key (did you mean 'voltage'?)"),
        ("value = 2", "value = 1979-05-27", "synaptic_event.value: must be a valid number"),
        ('name = "mine"', 'name = "a b"', "name: "),
        ('name = "mine"', "name = 3", "name: must be a valid string, not 3"),
        ("[synaptic_event]", "limits = 4\n[synaptic_event]", "limits: must be "),
        ("[synaptic_event]", "synaptic_event = 4\n[x]", "synaptic_event: must be a table such as {"),
        ("[synaptic_event]", "[limits.corse]\nvalue = 1\n[synaptic_event]", "did you mean 'cores'?"),
        ("[synaptic_event]", "[limits.cores]\nvalue = 0\n[synaptic_event]", "cores.value: must be greater than 0"),
        ("kind", "kind = = 3\nkind", "is not TOML"),
        ("value = 2", "value = " + "1" * 5000, "is not TOML"),
        ("value = 2", "value = " + "[" * 3000, "is not TOML"),
    ],
)  # fmt: skip
def test_a_mistake_names_file_key_and_remedy(own, old, new, told):
    path = own(old, new)
    with pytest.raises(RecipeError) as caught:
        read_target(path)
    message = str(caught.value)
    assert all(line.startswith(f"{path}: ") for line in message.splitlines())
    assert told in message
    assert caught.value.exit_code == 2


def test_all_mistakes_at_once(own):
    path = own("value = 2", "value = true\nvlotage = 1")
    with pytest.raises(RecipeError) as caught:
        read_target(path)
    assert len(str(caught.value).splitlines()) == 2


def _number(key: str, unit: str = "pJ", value: float = 1.0) -> str:
    return f'[{key}]\nvalue = {value}\nunit = "{unit}"\nsource = "page 8"\nprocess = "28 nm"\ngrade = "measured"\n'


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (_number("active_update"), "inactive_update: missing; active and inactive updates are priced together"),
        (
            _number("active_update") + _number("inactive_update") + _number("neuron_update"),
            "neuron_update: cannot stand beside",
        ),
        (_number("active_update") + _number("inactive_update", value=2.0), "inactive_update: must not be dearer"),
        (
            '[limits.layer_cores]\nkernel_words = [1, 2]\nneuron_words = [1]\nsource = "p"\ngrade = "vendor"\n',
            "limits.layer_cores.neuron_words: must be 2 numbers, one a core",
        ),
    ],
)
def test_what_cannot_stand_together(own, more, told):
    with pytest.raises(RecipeError) as caught:
        read_target(own(new=more))
    assert told in str(caught.value)


def test_static_power_is_not_charged_twice(own):
    own()
    path = own('kind = "event"', 'kind = "event"\nincludes_static = true')
    path.write_text(path.read_text(encoding="utf-8") + _number("static_power", "mW"), encoding="utf-8")
    with pytest.raises(RecipeError, match="static_power: would be charged twice"):
        read_target(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(RecipeError, match="no such file"):
        read_target(tmp_path / "none.toml")
    with pytest.raises(RecipeError, match="is a folder"):
        read_target(tmp_path)
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="is not UTF-8 text"):
        read_target(tmp_path / "x.toml")


def test_names(own, tmp_path):
    with pytest.raises(RecipeError, match=r"target 'loihi-9' does not exist; there are horowitz-fp16, .*\.toml file"):
        find_targets(["loihi-9"])
    taken = own('"mine"', '"loihi"')
    for read in (load_targets, lambda path: find_targets([str(path)])):
        with pytest.raises(RecipeError, match="name: 'loihi' is a target that comes with snnsc"):
            read(taken)
        with pytest.raises(RecipeError, match=r"name: 'LoIHI' is .* \(as 'loihi'\); choose another name"):
            read(own('"mine"', '"LoIHI"'))
        own('"mine"', '"loihi"')
    other = tmp_path / "other.toml"
    other.write_text(OWN.replace("value = 2", "value = 3"), encoding="utf-8")
    with pytest.raises(RecipeError, match="'mine' is the name of another target"):
        find_targets([str(own()), str(other)])
