"""Every key of a recipe: described, frozen, bounded; defaults as published."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import get_args

import pytest
from pydantic import ValidationError

from snnsc.recipe import schema
from snnsc.recipe.schema import Recipe, Spec


def all_specs(base: type[Spec] = Spec) -> Iterator[type[Spec]]:
    """Those of recipes; target files of `energy` have theirs."""
    for spec in base.__subclasses__():
        if spec.__module__.startswith("snnsc.recipe."):
            yield spec
            yield from all_specs(spec)


MEMBERS = [spec for spec in all_specs() if not spec.__name__.endswith("Base")]
REQUIRED = {
    "folder": "x", "size": 32, "classes": 2, "epochs": 1, "name": "x", "start": 1.0, "ratio": 1.0, "checkpoint": "x"
}  # fmt: skip
NESTED = {"data": {"type": "digits"}, "model": {"arch": "tiny"}, "train": {"epochs": 1}}


def smallest(spec: type[Spec]) -> dict[str, object]:
    """A table with the required keys only."""
    table: dict[str, object] = {}
    for key, field in spec.model_fields.items():
        if field.is_required():
            table[key] = get_args(field.annotation)[0] if key in {"type", "arch", "mode"} else (REQUIRED | NESTED)[key]
    return table


def test_the_walk_finds_the_specs() -> None:
    assert len(MEMBERS) > 30
    assert {s.__name__ for s in MEMBERS} >= {"Recipe", "TinySpec", "DspikeSpec", "ImageAugment", "SgdSpec"}


@pytest.mark.parametrize("spec", list(all_specs()), ids=lambda s: s.__name__)
def test_every_key_is_described(spec: type[Spec]) -> None:
    assert "__doc__" in vars(spec)
    for key, field in spec.model_fields.items():
        assert field.description, key
        assert field.description.endswith("."), key


@pytest.mark.parametrize("spec", MEMBERS, ids=lambda s: s.__name__)
def test_defaults_are_valid_and_nothing_can_be_set(spec: type[Spec]) -> None:
    # pydantic does not check defaults: dumped and read again they are ordinary values
    made = spec.model_validate_json(json.dumps(smallest(spec)))
    assert spec.model_validate_json(made.model_dump_json()) == made
    key = next(iter(spec.model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(made, key, getattr(made, key))
    with pytest.raises(ValidationError):
        made.something_else = 1
    with pytest.raises(ValidationError, match="extra_forbidden"):
        spec.model_validate_json(json.dumps(smallest(spec) | {"no_such_key": 1}))
    assert hash(made) == hash(spec.model_validate_json(made.model_dump_json()))  # neurons are cached by their spec


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (schema.LifSpec, {"decay": 0.5, "threshold": 1.0}),
        (schema.IfSpec, {"threshold": 1.0, "reset": "hard", "detach_reset": False}),
        (schema.PlifSpec, {"tau": 2.0}),
        (schema.GlifSpec, {"gates": (0.6, 0.8, 0.6), "tau": 0.25, "threshold": 0.5, "conduct": 0.5}),
        (schema.MaskingSpec, {"ratio": 0.5, "placement": "surrogate", "ramp": None}),
        (schema.WeightingSpec, {"warmup_epochs": 5, "momentum": 0.7}),
        (schema.TetSpec, {"lamb": 1e-3, "target": 1.0}),
        (schema.ImLossSpec, {"weight": 0.005}),
        (schema.DistillSpec, {"attach": "block", "temperature": 3.0}),
        (schema.TriangleSpec, {"gamma": 1.0}),
        (schema.RectangleSpec, {"a": 1.0}),
        (schema.TanhSpec, {"k": 1.0}),
        (schema.SigmoidSpec, {"alpha": 4.0}),
        (schema.DspikeSpec, {"b": 3.0}),
        (schema.AtanSpec, {"alpha": 2.0}),
        (schema.PiecewiseLinearSpec, {"alpha": 2.0}),
        (schema.TdbnSpec, {"alpha": 1.0}),
        (schema.ShortcutSpec, {"attach": "block", "combine": "logits"}),
        (
            schema.EvolutionarySpec,
            {"attach": "block", "combine": "logits", "weight": 0.25, "schedule": "linear"},
        ),
        (schema.AdamWSpec, {"lr": 0.01, "weight_decay": 0.02, "betas": (0.9, 0.999)}),
        (schema.SgdSpec, {"lr": 0.1, "weight_decay": 5e-4, "momentum": 0.9, "nesterov": False}),
        (schema.TrainSpec, {"batch_size": 128, "lr_schedule": "cosine", "warmup_epochs": 0.0, "label_smoothing": 0.0}),
        (schema.Cifar10DvsSpec, {"size": 48, "slicing": "time", "channels": 2, "classes": 10}),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_defaults_are_the_published_ones(spec: type[Spec], expected: dict[str, object]) -> None:
    made = spec.model_validate_json(json.dumps(smallest(spec)))
    assert {key: getattr(made, key) for key in expected} == expected


def test_default_method_neuron_and_surrogate() -> None:
    recipe = Recipe.model_validate_json(json.dumps(smallest(Recipe)))
    assert isinstance(recipe.method, schema.EvolutionarySpec)
    assert isinstance(recipe.model.neuron, schema.LifSpec)
    assert isinstance(recipe.model.surrogate, schema.TriangleSpec)
    assert isinstance(recipe.model.norm, schema.BnSpec)
    assert recipe.model.T == 4


def test_every_data_set_knows_its_classes_and_channels(make_recipe: Callable[..., Recipe]) -> None:
    expected = {
        "digits": (10, 1, 8, False),
        "mnist": (10, 1, 28, False),
        "fashion-mnist": (10, 1, 28, False),
        "cifar10": (10, 3, 32, False),
        "cifar100": (100, 3, 32, False),
        "nmnist": (10, 2, 34, True),
        "cifar10dvs": (10, 2, 48, True),
        "imagenet": (1000, 3, 224, False),
        "dvs128gesture": (11, 2, 48, True),
        "ncaltech101": (101, 2, 48, True),
    }
    for name, facts in expected.items():
        data = make_recipe(f"data={{type={name!r}}}").data
        assert (data.classes, data.channels, data.size, data.is_event) == facts
