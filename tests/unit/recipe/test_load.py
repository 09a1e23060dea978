"""Reading recipes: every kind of error, all of them at once, each as `file: key.path: what is wrong`."""

from __future__ import annotations

import re
import string
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnsc.errors import RecipeError
from snnsc.recipe.load import find_recipe, load_recipe, override, shipped_recipes, to_toml, validate
from snnsc.recipe.schema import EvolutionarySpec, Recipe, SgdSpec

PLAIN = "method.mode=vanilla"
GOOD = """
name = "good"
[data]
type = "digits"
[model]
arch = "tiny"
[train]
epochs = 2
"""
RECIPES = Path(__file__).parents[3] / "recipes"
SHIPPED = sorted(RECIPES.rglob("*.toml"))


@pytest.fixture
def problems(tmp_path: Path) -> Callable[..., list[str]]:
    """The lines of the error that a recipe text gives, without the file's name in front."""

    def read(text: str | bytes, *overrides: str) -> list[str]:
        file = tmp_path / "r.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(RecipeError) as caught:
            load_recipe(file, overrides)
        lines = str(caught.value).splitlines()
        assert all(line.startswith(f"{file}: ") for line in lines), lines
        return [line.removeprefix(f"{file}: ") for line in lines]

    return read


def test_a_good_recipe(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(GOOD)
    recipe = load_recipe(tmp_path / "r.toml")
    assert (recipe.name, recipe.seed, recipe.data.type, recipe.model.arch, recipe.train.epochs) == (
        "good", 0, "digits", "tiny", 2,
    )  # fmt: skip
    assert recipe.method == EvolutionarySpec(mode="evolutionary", weight=0.25)
    assert load_recipe(str(tmp_path / "r.toml")) == recipe


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        # unknown keys, with the nearest right one
        (["train.epoch=3"], ["train.epoch: unknown key (did you mean 'epochs'?)"]),
        (["modle.T=3"], ["modle: unknown key (did you mean 'model'?)"]),
        (["method={mode='evolutionary', wieght=1}"], ["method.wieght: unknown key (did you mean 'weight'?)"]),
        (["model.neuron={type='lif', tau=2}"], ["model.neuron.tau: unknown key here; it goes with "]),
        (["data.augment.flop=true"], ["data.augment.flop: unknown key (did you mean 'flip'?)"]),
        # a key of another member of the union
        (["model.neuron={type='if', decay=0.5}"], ["model.neuron.decay: unknown key here; it goes with "]),
        (["method={mode='vanilla', weight=0.1}"], ["method.weight: unknown key here; it goes with "]),
        (["model.variant=tet"], ["model.variant: unknown key here; it goes with arch = resnet19"]),
        # wrong types, none of them converted
        (["train.epochs='3'"], ['train.epochs: must be a valid integer, not "3"']),
        (["train.epochs=3.0"], ["train.epochs: must be a valid integer, not 3.0"]),
        (["train.epochs=true"], ["train.epochs: must be a valid integer, not true"]),
        (["name=3"], ["name: must be a valid string, not 3"]),
        (["train.optimizer={type='adamw', lr='0.1'}"], ['train.optimizer.lr: must be a valid number, not "0.1"']),
        (["data.augment.flip=1"], ["data.augment.flip: must be a valid boolean, not 1"]),
        (["train=5"], ["train: is a table, not 5; write train.epochs = ..."]),
        (["data=digits"], ['data: is a table, not "digits"; write data.type = ..., one of digits, ']),
        # out of range
        (["train.epochs=0"], ["train.epochs: must be greater than or equal to 1, not 0"]),
        (["model.T=1025"], ["model.T: must be less than or equal to 1024, not 1025"]),
        (["seed=-1"], ["seed: must be greater than or equal to 0, not -1"]),
        (["seed=4294967296"], ["seed: must be less than 4294967296, not 4294967296"]),
        (["model.neuron={type='lif', decay=0.0}"], ["model.neuron.decay: must be greater than 0, not 0.0"]),
        (["model.neuron={type='lif', decay=1.01}"], ["model.neuron.decay: must be less than or equal to 1, not 1.01"]),
        (["train.label_smoothing=1.0"], ["train.label_smoothing: must be less than 1, not 1.0"]),
        (["data.validation=0.6"], ["data.validation: must be less than or equal to 0.5, not 0.6"]),
        (
            ["train.optimizer={type='adamw', betas=[0.9, 1.0]}"],
            ["train.optimizer.betas.1: must be less than 1, not 1.0"],
        ),
        (["train.optimizer={type='adamw', betas=[0.9]}"], ["train.optimizer.betas.1: missing"]),
        (["name=../up"], ["name: "]),
        # wrong tags
        (["data.type=digit"], ["data.type: unknown value 'digit' (did you mean 'digits'?)"]),
        (["model.arch=resnet-18"], ["model.arch: unknown value 'resnet-18' (did you mean 'resnet18'?)"]),
        (["method.mode=evolution"], ["method.mode: unknown value 'evolution' (did you mean 'evolutionary'?)"]),
        (["model.norm.type=zzz"], ["model.norm.type: unknown value 'zzz' (known: bn, tdbn, tebn, bntt, mpbn)"]),
        (["train.lr_schedule=cosin"], ["train.lr_schedule: unknown value 'cosin' (known: cosine, constant)"]),
        (["train.precision=true"], ["train.precision: unknown value true (known: fp32, bf16, auto)"]),
        (["train.precision=fp16"], ["train.precision: unknown value 'fp16' (known: fp32, bf16, auto)"]),
        # missing
        (["data={}"], ["data.type: missing"]),
        (["model.neuron={decay=0.9}"], ["model.neuron.type: missing"]),
        (["train={}"], ["train.epochs: missing"]),
        (["data={type='image-folder', size=32}"], ["data.folder: missing", "data.classes: missing"]),
        # values that no key takes
        (["train.optimizer={type='adamw', lr=nan}"], ["train.optimizer.lr: must be a finite number, not nan"]),
        (["train.warmup_epochs=-inf"], ["train.warmup_epochs: must be a finite number, not -inf"]),
        (["train.epochs=nan"], ["train.epochs: must be a finite number, not nan"]),  # and not `missing` as well
        (["train.epochs=2020-01-01"], ["train.epochs: no key takes a date or time, such as 2020-01-01"]),
        (["seed=10:30:00"], ["seed: no key takes a date or time, such as 10:30:00"]),
        (
            ["train.optimizer={type='adamw', betas=[nan, 0.9]}"],
            ["train.optimizer.betas.0: must be a finite number, not nan"],
        ),
        (["train.epochs=99999999999999999999999"], ["train.epochs: must be a number of at most 64 bits"]),
        # valid alone but not together
        (["data.size=4", "model.arch=resnet18"], ["data.size: 4 is too small for resnet18, which needs at least 8"]),
        (["data.size=8", "model.arch=vggsnn"], ["data.size: 8 is too small for vggsnn, which needs at least 16"]),
        (["train.warmup_epochs=2"], ["train.warmup_epochs: 2 leaves nothing of train.epochs = 2"]),
        (
            ["data={type='image-folder', folder='x', size=8, classes=2, mean=[0.5], std=[1.0, 1.0]}"],
            ["data.mean: has 1 values for data.channels = 3", "data.std: has 2 values for data.channels = 3"],
        ),
        (["data.augment.cutout=9"], ["data.augment.cutout: 9 is larger than data.size = 8"]),
        (
            ["data.augment.autoaugment=cifar10"],
            ["data.augment.autoaugment: its policies are for colour images, digits is grey"],
        ),
        (
            ["data={type='nmnist', size=8, augment={roll=8}}"],
            ["data.augment.roll: 8 is not smaller than data.size = 8"],
        ),
        (["model.stages=[]"], ["model.stages: needs two convolutions at least, and one in every stage"]),
        (["model.stages=[[16]]"], ["model.stages: needs two convolutions at least, and one in every stage"]),
        (["model.stages=[[16, 32], []]"], ["model.stages: needs two convolutions at least, and one in every stage"]),
        (["model.stages=[[1],[1],[1],[1],[1]]"], ["model.stages: has 4 pools, too many for data.size = 8"]),
        (["model.stages=[[16, 32]]"], ["model.stages: leaves no block before the last for a branch to read"]),
        (["model.stages=[[16], [32]]"], ["model.stages: leaves no block before the last for a branch to read"]),
        (
            ["model.stages=[[16], [32, 64]]", "method={mode='shortcut', attach='stage'}"],
            ["model.stages: leaves no stage before the last for a branch to read"],
        ),
        # options that do not go together
        (
            ["model.neuron={type='relu'}"],
            ["model.T: must be 1 with model.neuron.type = 'relu', which has no memory of time"],
        ),
        (["model.neuron={type='relu'}", "model.T=1", "model.norm.type=tdbn"], ["model.norm.type: "]),
        (["model.norm.type=bntt", "model.T=1"], ["model.norm.type: "]),
        (["model.norm.type=tebn", "model.T=1"], ["model.norm.type: "]),
        (["model.norm.type=mpbn", "model.neuron={type='clif'}"], ["model.norm.type: "]),
        (["model.norm.type=tdbn", "model.neuron={type='glif'}"], ["model.norm.type: "]),
        (["model.arch=resnet20-thin", "model.neuron={type='real-spike'}"], ["model.neuron.type: "]),
        ([PLAIN, "method.weighting={}", "model.T=1"], ["method.weighting: ", "method.weighting.warmup_epochs: "]),
        ([PLAIN, "method.weighting={warmup_epochs=1}", "method.loss={type='tet'}"], ["method.weighting: "]),
        ([PLAIN, "method.masking={ratio=0.5,ramp={start=2,ratio=1.0}}"], ["method.masking.ramp.start: "]),
        ([PLAIN, "method.masking={ratio=1.5}"], ["method.masking.ratio: "]),
        (
            [PLAIN, "model.neuron={type='relu'}", "model.T=1", "method.masking={}", "method.im_loss={}"],
            ["method.masking: ", "method.im_loss: "],
        ),
        (["data.augment.resized_crop=true", "data.augment.crop=2"], ["data.augment.crop: "]),
        (["data={type='cifar10',size=16}", "model={arch='resnet18',stem='imagenet'}"], ["data.size: "]),
        (["model.norm.type=bntt", "train.batch_size=1"], ["train.batch_size: "]),
        (["model.stages=[[1],[0]]"], ["model.stages.1.0: must be greater than or equal to 1, not 0"]),
        (
            ["train.optimizer={type='sgd', momentum=0, nesterov=true}"],
            ["train.optimizer.nesterov: needs a momentum above 0"],
        ),
    ],
)  # fmt: skip
def test_each_error(problems: Callable[..., list[str]], overrides: list[str], expected: list[str]) -> None:
    found = problems(GOOD, *overrides)
    assert len(found) == len(expected), found
    for line, start in zip(found, expected, strict=True):
        assert line == start or (start.endswith((" ", ": ")) and line.startswith(start))


def test_bounds_themselves_are_allowed(make_recipe: Callable[..., Recipe]) -> None:
    make_recipe("seed=4294967295", "model.T=1024", "data.validation=0.5", "train.label_smoothing=0.0")
    make_recipe("model.neuron={type='lif', decay=1.0}", "data.augment.cutout=8", "model.arch=resnet18")
    make_recipe("train.epochs=2", "train.warmup_epochs=1.99", "data={type='nmnist', size=8, augment={roll=7}}")
    make_recipe("train.warmup_epochs=0", "train.optimizer={type='sgd', lr=1}")  # an integer is a number


def test_all_errors_of_a_file_at_once(problems: Callable[..., list[str]]) -> None:
    found = problems(
        """
        seed = -1
        sead = 3
        started = 2024-05-01
        [data]
        type = "digits"
        size = "big"
        [data.augment]
        cutout = 100
        [model]
        arch = "resnet18"
        T = 0
        neuron = { type = "lif", decay = inf }
        [method]
        mode = "evolutionry"
        [train]
        batch_size = 0
        epochs = 5
        warmup_epochs = 5
        """
    )
    assert sorted(found) == sorted(
        [
            "name: missing",
            "seed: must be greater than or equal to 0, not -1",
            "sead: unknown key (did you mean 'seed'?)",
            "started: no key takes a date or time, such as 2024-05-01",
            'data.size: must be a valid integer, not "big"',
            "model.T: must be greater than or equal to 1, not 0",
            "model.neuron.decay: must be a finite number, not inf",
            "method.mode: unknown value 'evolutionry' (did you mean 'evolutionary'?)",
            "train.batch_size: must be greater than or equal to 1, not 0",
        ]
    )


def test_an_impossible_combination_shows_beside_other_errors(problems: Callable[..., list[str]]) -> None:
    found = problems(GOOD, "train.warmup_epochs=2", "train.batch=3", "data.augment.cutout=9", "model.T=0")
    assert sorted(found) == [
        "data.augment.cutout: 9 is larger than data.size = 8",
        "model.T: must be greater than or equal to 1, not 0",
        "train.batch: unknown key (did you mean 'batch_size'?)",
        "train.warmup_epochs: 2 leaves nothing of train.epochs = 2",
    ]


# ------------------------------------------------------------------------------------------------ hostile files


def test_an_empty_file_lacks_the_required_tables(problems: Callable[..., list[str]]) -> None:
    assert problems("") == ["name: missing", "data: missing", "model: missing", "train: missing"]


def test_no_toml_and_no_utf8(problems: Callable[..., list[str]]) -> None:
    assert problems("name = = 3")[0].startswith("is not TOML: Invalid value (at line 1, column 8")
    assert problems("name: yaml")[0].startswith("is not TOML: ")
    assert problems(GOOD + "[data]\n")[0].startswith("is not TOML: ")  # a table twice
    assert problems(b'name = "\xe9"') == ["is not UTF-8 text (byte 8); a recipe is a TOML file"]
    assert problems(b"\x00\x01")[0].startswith("is not TOML: ")


@pytest.mark.parametrize("depth", [20, 250, 450, 5000])
@pytest.mark.parametrize(
    "nest", [lambda n: "[" * n + "]" * n, lambda n: "{a=" * n + "1" + "}" * n], ids=["arrays", "tables"]
)
def test_deep_nesting(problems: Callable[..., list[str]], nest: Callable[[int], str], depth: int) -> None:
    (line,) = problems(f"x = {nest(depth)}\n{GOOD}")
    assert "is nested too deeply" in line or "is not TOML" in line
    with pytest.raises(RecipeError, match=r"nested too deeply|not TOML"):
        load_recipe("digits", [f"x={nest(depth)}"])


@pytest.mark.parametrize("depth", [20, 450, 2000])
def test_deep_dotted_keys(problems: Callable[..., list[str]], depth: int) -> None:
    (line,) = problems(".".join("a" * depth) + f" = 1\n{GOOD}")
    assert "is nested too deeply" in line or "is not TOML" in line
    with pytest.raises(RecipeError, match="nested too deeply"):
        load_recipe("digits", [".".join("a" * depth) + "=1"])


def test_huge_numbers(problems: Callable[..., list[str]]) -> None:
    assert problems(GOOD.replace("2", "9" * 5000))[0].startswith("is not TOML: Exceeds the limit")
    assert problems(GOOD.replace("2", "0x" + "f" * 5000)) == ["train.epochs: must be a number of at most 64 bits"]
    assert problems(GOOD.replace("2", "1e999")) == ["train.epochs: must be a finite number, not inf"]
    with pytest.raises(RecipeError, match=r"train\.epochs"):
        load_recipe("digits", ["train.epochs=" + "9" * 5000])


def test_unicode_keys(problems: Callable[..., list[str]]) -> None:
    found = problems('"スパイク" = 1\n"a.b\\n" = 2\n"" = 3\n' + GOOD + '"\\U0001F600" = 4\n')
    assert "スパイク: unknown key (known: name, seed, data, model, method, train)" in found
    assert any(line.startswith('train."😀": unknown key') for line in found)
    # an error stays one line, whatever the key is
    assert '"": unknown key (known: name, seed, data, model, method, train)' in found
    assert any(line.startswith(r'"a.b\n": unknown key') for line in found)


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for path, message in {
        "runs": "runs: is a folder; give a recipe file in it",
        "digit": "digit: no such recipe file; did you mean the shipped recipe 'digits'?",
        "mine/digtis.toml": "mine/digtis.toml: no such recipe file; did you mean the shipped recipe 'digits'?",
        "zzz": "zzz: no such recipe file; `snnsc recipes` lists those that come with it",
        "": ": is a folder; give a recipe file in it",
        "a" * 300: "a" * 300 + ": cannot be read: File name too long",
    }.items():
        with pytest.raises(RecipeError, match=f"^{re.escape(message)}$"):
            load_recipe(path)


# ------------------------------------------------------------------------------------------------------- --set


def test_values_follow_toml() -> None:
    texts = ["a=1", "b=1.5", "c=true", "d='1'", 'e="x y"', "f=[1, 2]", "g={h=1}", "i=1e-3", "j=0x10", 'k="a=b"']
    tables: dict[str, object] = {}
    assert override(tables, texts) == {
        "a": 1, "b": 1.5, "c": True, "d": "1", "e": "x y", "f": [1, 2], "g": {"h": 1}, "i": 1e-3, "j": 16, "k": "a=b",
    }  # fmt: skip
    assert tables == {}  # a copy
    assert type(override({}, ["a=1"])["a"]) is int
    assert type(override({}, ["a=1.0"])["a"]) is float


def test_bare_words_are_strings() -> None:
    for word in ("resnet18", "/data/set", "True", "1.2.3", "two words", "image-folder", "C:\\data", "é"):
        assert override({}, [f"a={word}"]) == {"a": word}
    assert override({}, [" a . b = x "]) == {"a": {"b": "x"}}


def test_an_empty_value_is_none() -> None:
    with pytest.raises(RecipeError, match=r"^--set a\.b=: has no value; an empty string is '\"\"'$"):
        override({}, ["a.b="])


@pytest.mark.parametrize("value", ["[1, 2", "'x", '"x', "{a=1", "x]", "[x]", "a=b", "x # y"])
def test_broken_values_are_no_bare_words(value: str) -> None:
    with pytest.raises(RecipeError, match=rf"^--set a\.b={re.escape(value)}: the value is not TOML: "):
        override({}, [f"a.b={value}"])


def test_paths_reach_into_tables_in_order() -> None:
    tables = {"train": {"epochs": 1, "deep": {"x": 1}}}
    found = override(tables, ["train.epochs=2", "train.deep.y=3", "new.table.key=4", "train.epochs=5"])
    assert found == {"train": {"epochs": 5, "deep": {"x": 1, "y": 3}}, "new": {"table": {"key": 4}}}
    assert tables == {"train": {"epochs": 1, "deep": {"x": 1}}}
    assert override({}, ["a={b=1}", "a.c=2"]) == {"a": {"b": 1, "c": 2}}
    assert override({"a": {"b": 1}}, ["a={c=2}"]) == {"a": {"c": 2}}  # a table is replaced whole


@pytest.mark.parametrize("text", ["train.epochs", "=5", "train..epochs=5", ".a=1", "a.=1", " =1", ""])
def test_an_override_needs_key_and_value(text: str) -> None:
    with pytest.raises(RecipeError, match=f"^--set {re.escape(text)}: must be KEY=VALUE"):
        override({}, [text])


def test_an_override_cannot_go_through_a_value() -> None:
    with pytest.raises(RecipeError, match=r"^--set name\.x=1: name is a value, it has no keys below it$"):
        override({"name": "a"}, ["name.x=1"])
    with pytest.raises(RecipeError, match=r"train\.epochs is a value"):
        override({"train": {"epochs": 1}}, ["train.epochs.x.y=1"])
    with pytest.raises(RecipeError, match="a is a value"):
        override({"a": [{"b": 1}]}, ["a.0=1"])


def test_an_override_is_one_value_of_text() -> None:
    with pytest.raises(RecipeError, match="more than one value"):
        override({}, ["a=1\nb=2"])
    with pytest.raises(RecipeError, match="is not UTF-8 text"):
        override({}, ["a=\udcff"])
    with pytest.raises(RecipeError, match="is not UTF-8 text"):
        override({}, ["a.\udcff=1"])


def test_overrides_are_checked_like_the_file() -> None:
    assert load_recipe("digits", ["train.epochs=3", "model.T=2", "name=other"]).train.epochs == 3
    with pytest.raises(RecipeError, match=r"^digits: train\.epochz: unknown key \(did you mean 'epochs'\?\)$"):
        load_recipe("digits", ["train.epochz=3"])


# ----------------------------------------------------------------------------------------------- shipped recipes


def test_shipped_recipes_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sorted(shipped_recipes().values()) == SHIPPED
    assert {"digits", "mnist"} <= shipped_recipes().keys()
    assert find_recipe("digits") == RECIPES / "digits.toml"
    Path("digits").write_text(GOOD)
    assert load_recipe("digits").name == "good"  # a file of that name goes before


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_each_shipped_recipe(path: Path, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.fullmatch(r"# \S.*\.", text.splitlines()[0]), "the first line says what it is; `snnsc recipes` shows it"
    recipe = load_recipe(path)
    (tmp_path / "again.toml").write_text(to_toml(recipe), encoding="utf-8")
    assert load_recipe(tmp_path / "again.toml") == recipe
    # every key of the file is in the recipe with the file's value: nothing is dropped or changed
    assert_within(tomllib.loads(text), recipe.model_dump(mode="json"))


def assert_within(part: dict, whole: dict) -> None:
    for key, value in part.items():
        if isinstance(value, dict):
            assert_within(value, whole[key])
        else:
            assert whole[key] == value


positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_nan=False)
surrogates = st.one_of(
    *(
        st.fixed_dictionaries({"type": st.just(name), key: positive})
        for name, key in [("triangle", "gamma"), ("dspike", "b"), ("piecewise-linear", "alpha"), ("rectangle", "a")]
    )
)
optimizers = st.one_of(
    st.fixed_dictionaries({"type": st.just("sgd"), "lr": positive, "nesterov": st.booleans()}),
    st.fixed_dictionaries({"type": st.just("adamw"), "betas": st.lists(st.floats(0, 0.99999), min_size=2, max_size=2)}),
)


@settings(max_examples=150, deadline=None)
@given(
    name=st.text(string.ascii_letters + string.digits, min_size=1, max_size=20),
    seed=st.integers(0, 2**32 - 1),
    root=st.text(st.characters(exclude_categories=["Cs"])),
    surrogate=surrogates,
    optimizer=optimizers,
    clip=st.none() | positive,
)
def test_to_toml_reads_back_equal(name, seed, root, surrogate, optimizer, clip) -> None:
    tables = {
        "name": name,
        "seed": seed,
        "data": {"type": "digits", "root": root, "augment": {"flip": True}},
        "model": {"arch": "tiny", "surrogate": surrogate},
        "train": {"epochs": 1, "optimizer": optimizer} | ({} if clip is None else {"clip_norm": clip}),
    }
    recipe = validate(tables, "test")
    assert (recipe.name, recipe.seed, recipe.data.root, recipe.train.clip_norm) == (name, seed, root, clip)
    assert validate(tomllib.loads(to_toml(recipe)), "again") == recipe


def test_to_toml_spells_every_key_out() -> None:
    written = tomllib.loads(to_toml(load_recipe("digits", ["train.optimizer={type='sgd'}"])))
    assert written["model"]["neuron"] == {
        "type": "lif", "decay": 0.5, "threshold": 1.0, "input_gain": 1.0, "reset": "hard", "detach_reset": False
    }  # fmt: skip
    assert written["train"]["optimizer"].keys() == SgdSpec.model_fields.keys()


def test_a_recipe_is_read_without_torch_or_numpy() -> None:
    program = (
        "import sys; from snnsc.recipe.load import load_recipe; load_recipe('digits'); "
        "print([m for m in ('torch', 'numpy', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("mode", ["vanilla", "shortcut"])
def test_set_of_a_tag_drops_what_the_other_member_does_not_have(mode):
    recipe = load_recipe("digits", [f"method.mode={mode}"])  # the file sets method.weight, which only evolutionary has
    assert recipe.method.mode == mode


def test_set_of_a_tag_keeps_what_was_set_with_it():
    with pytest.raises(RecipeError, match=r"method\.weight: unknown key"):
        load_recipe("digits", ["method.mode=vanilla", "method.weight=0.1"])
    assert load_recipe("digits", ["data.type=cifar10", "model.arch=resnet18"]).model.T == 4


@pytest.mark.parametrize("mode", ["vanilla", "evolutionary"])
def test_set_of_a_tag_does_not_hide_a_misspelled_key(tmp_path, mode):
    path = tmp_path / "r.toml"
    path.write_text(find_recipe("digits").read_text().replace("weight =", "wieght ="))
    with pytest.raises(RecipeError, match=r"method\.wieght: unknown key"):
        load_recipe(path, [f"method.mode={mode}"])


def test_set_of_a_key_changes_the_default_that_the_file_leaves_out():
    recipe = load_recipe("digits", ["model.surrogate.gamma=2", "model.neuron.reset=soft"])
    assert (recipe.model.surrogate.type, recipe.model.surrogate.gamma) == ("triangle", 2.0)
    assert (recipe.model.neuron.type, recipe.model.neuron.reset) == ("lif", "soft")
    with pytest.raises(RecipeError, match=r"method\.loss\.lamb: unknown key here; it goes with type = tet"):
        load_recipe("digits", ["method.loss.lamb=0.1"])


def test_set_of_a_tag_drops_foreign_keys_of_inner_tables_too():
    recipe = load_recipe("guo2024/cifar10dvs-resnet18-t10", ["data.type=cifar10"])  # the file sets data.augment.roll
    assert recipe.data.augment.flip
    with pytest.raises(RecipeError, match=r"data\.augment\.roll: unknown key"):
        load_recipe("guo2024/cifar10dvs-resnet18-t10", ["data.type=cifar10", "data.augment.roll=3"])


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("method.loss=tet", 'method.loss: is a table, not "tet"; write method.loss.type = ..., one of ce, tet'),
        ("method.masking=true", "method.masking: is a table, not true; write method.masking = {} for its defaults"),
        ("method.teacher=x.pt", 'method.teacher: is a table, not "x.pt"; write method.teacher.checkpoint = ...'),
    ],
)
def test_a_value_in_place_of_a_table_says_how_it_is_written(override, what):
    with pytest.raises(RecipeError) as error:
        load_recipe("digits", [override])
    assert str(error.value) == f"digits: {what}"


def test_set_of_a_tag_within_a_union_drops_foreign_keys_too():
    # the file sets model.neuron.reset, and the table of the neuron stands within the union of the architectures
    assert load_recipe("guo2024/cifar10-resnet18-t4", ["model.neuron.type=clif"]).model.neuron.type == "clif"
