"""The first training losses on real digits, frozen: a change of numerics must be meant, and said in the CHANGELOG.

To record anew: python tests/golden/test_golden_losses.py
"""

import json
from itertools import islice
from pathlib import Path

import pytest
import torch

from snnsc.data import build_loaders
from snnsc.recipe.load import load_recipe
from snnsc.training.distributed import Place
from snnsc.training.loop import StepDone, Training

RECORDED = Path(__file__).with_name("losses.json")
STEPS = 4
ARMS = {
    "vanilla": ["method={mode='vanilla'}"],
    "shortcut": ["method={mode='shortcut'}"],
    "evolutionary": ["method={mode='evolutionary'}"],
    "evolutionary-losses": ["method={mode='evolutionary',combine='losses',schedule='cosine'}"],
    "sgd-if-bn-atan": [
        "train.optimizer={type='sgd'}",
        "model={neuron={type='if'},norm={type='bn'},arch='tiny'}",
        "model.surrogate={type='atan'}",
    ],
    "distill-tet": ["method={mode='distill',loss={type='tet',lamb=0.05}}"],
    "im-loss": ["method.im_loss={weight=1.0}"],
    "masking": ["method.masking={ratio=0.5}"],
    "resnet20-thin": ["model={arch='resnet20-thin',T=2}", "method={attach='stage',mode='evolutionary'}"],
}


def losses(overrides):
    """Mean loss of the epoch so far, after each of the first steps, in float32."""
    common = ["train.precision=fp32", "train.compile=off", "train.batch_size=32", "data.augment={crop=1}"]
    recipe = load_recipe("digits", [*common, *overrides])
    training = Training(recipe, build_loaders(recipe, Path("unused")), Place(torch.device("cpu")))
    return [event.loss for event in islice(training.events(), STEPS) if isinstance(event, StepDone)]


@pytest.mark.parametrize("arm", ARMS)
def test_losses_are_those_recorded(arm):
    first, *later = losses(ARMS[arm])
    expected, *expected_later = json.loads(RECORDED.read_text())[arm]
    assert first == pytest.approx(expected, rel=1e-5)
    # another processor sums in another order, so single spikes flip, and the losses drift apart by about 1e-3
    assert later == pytest.approx(expected_later, rel=4e-3)


if __name__ == "__main__":
    RECORDED.write_text(json.dumps({arm: losses(overrides) for arm, overrides in ARMS.items()}, indent=1) + "\n")
