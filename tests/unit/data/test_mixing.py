from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from snnsc.data.mixing import Mixing, cutmix, cutmix_box, mixup

CLASSES = 5


def labels(count=6):
    return torch.arange(count) % CLASSES


def one_hot(count=6):
    return torch.nn.functional.one_hot(labels(count), CLASSES).float()


def images(count=6):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(count, 3, 9, 12)).astype(np.float32))


def frames(count=6, steps=4):
    return torch.from_numpy(np.random.default_rng(1).poisson(1.0, (steps, count, 2, 9, 12)).astype(np.float32))


def torchvisions(kind, inputs, share):
    """torchvision's transform with a given lambda; frames go in as videos [B, T, C, H, W]."""
    transform = kind(alpha=1.0, num_classes=CLASSES)
    transform._dist = SimpleNamespace(sample=lambda _shape: torch.tensor([share], dtype=torch.float64))
    if inputs.ndim == 4:
        return transform(inputs, labels())
    mixed, mixed_labels = transform(tv_tensors.Video(inputs.transpose(0, 1)), labels())
    return mixed.as_subclass(torch.Tensor).transpose(0, 1), mixed_labels


@pytest.mark.parametrize("inputs", [images(), frames()])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_mixup_is_torchvisions(inputs, share):
    ours, theirs = mixup(inputs, one_hot(), share), torchvisions(v2.MixUp, inputs, share)
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("inputs", [images(), frames()])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("centre", [(0, 0), (11, 8), (5, 4), (2, 7)])
def test_cutmix_is_torchvisions(monkeypatch, inputs, share, centre):
    numbers = {12: centre[0], 9: centre[1]}
    monkeypatch.setattr(torch, "randint", lambda high, size: torch.tensor([numbers[high]]))  # noqa: ARG005
    theirs = torchvisions(v2.CutMix, inputs, share)
    ours = cutmix(inputs, one_hot(), cutmix_box(share, centre, 12, 9))
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("inputs", [images(), frames()])
def test_the_inputs_are_left_as_they_are(inputs):
    before, targets = inputs.clone(), one_hot()
    mixup(inputs, targets, 0.4)
    cutmix(inputs, targets, (2, 2, 5, 6))
    assert torch.equal(inputs, before)
    assert torch.equal(targets, one_hot())


def test_cutmix_by_hand():
    ones = torch.arange(3.0)[:, None, None, None].expand(3, 1, 4, 4)
    out, targets = cutmix(ones, torch.eye(3), (0, 1, 2, 3))
    assert out[1, 0].tolist() == [[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1]]
    assert out[0, 0, 1].tolist() == [2, 2, 0, 0]
    assert targets[1].tolist() == [0.25, 0.75, 0]


@pytest.mark.parametrize(("mixup_alpha", "cutmix_alpha"), [(0.2, 0.0), (0.0, 1.0), (0.8, 1.0)])
@pytest.mark.parametrize("inputs", [images(), frames()])
def test_a_batch_is_a_function_of_its_generator(inputs, mixup_alpha, cutmix_alpha):
    mixing = Mixing(mixup_alpha, cutmix_alpha, CLASSES)
    first, again = (mixing(inputs, labels(), np.random.default_rng(4)) for _ in range(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert first[0].shape == inputs.shape
    assert first[0].is_contiguous()
    assert (first[1].shape, first[1].dtype) == ((6, CLASSES), torch.float32)
    assert torch.allclose(first[1].sum(1), torch.ones(6))


def test_both_are_drawn_about_equally_and_one_alone_always():
    def cut(mixing, seed):
        out, _ = mixing(torch.eye(6).reshape(6, 1, 1, 6).expand(6, 1, 9, 6), labels(), np.random.default_rng(seed))
        return bool(((out == 0) | (out == 1)).all())

    both = [cut(Mixing(1.0, 1.0, CLASSES), seed) for seed in range(300)]
    assert 110 < sum(both) < 190
    assert not any(cut(Mixing(1.0, 0.0, CLASSES), seed) for seed in range(20))
    assert all(cut(Mixing(0.0, 1.0, CLASSES), seed) for seed in range(20))


def test_the_share_is_beta_distributed():
    shares = [float(Mixing(0.4, 0.0, 2)(torch.zeros(2, 1, 1, 1), torch.tensor([0, 1]),
                                        np.random.default_rng(seed))[1][0, 0]) for seed in range(3000)]  # fmt: skip
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.01)
