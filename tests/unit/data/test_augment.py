import numpy as np
import pytest
import torch

from snnsc.data.augment import Draws, FramePipeline, ImagePipeline, autoaugmented, cut_out, flipped, windows
from snnsc.data.splits import AUGMENT, generator
from snnsc.recipe.schema import EventAugment, ImageAugment

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def draws(total, step=0, mine=None):
    return Draws(generator(AUGMENT, 0, 0, step), total, np.arange(total) if mine is None else np.asarray(mine))


def images(count=16, size=12, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def test_normalisation_is_torchvisions():
    from torchvision.transforms import Compose, Normalize, ToTensor

    raw = images()
    transform = Compose([ToTensor(), Normalize(MEAN, STD)])
    expected = torch.stack([transform(image.transpose(1, 2, 0)) for image in raw])
    pipeline = ImagePipeline(MEAN, STD, ImageAugment())
    assert torch.equal(pipeline.evaluate(raw), expected)
    assert torch.equal(pipeline.train(raw, draws(16)), expected)


def test_windows_are_cut_at_their_corners():
    padded = np.arange(2 * 36).reshape(2, 1, 6, 6)
    out = windows(padded, np.array([[0, 0], [2, 1]]), 4)
    assert np.array_equal(out[0], padded[0, :, :4, :4])
    assert np.array_equal(out[1], padded[1, :, 2:6, 1:5])


def test_crop_is_a_shift_with_zeros():
    raw = np.full((64, 3, 8, 8), 255, np.uint8)
    out = ImagePipeline((0.0,) * 3, (1.0,) * 3, ImageAugment(crop=2)).train(raw, draws(64)).numpy()
    assert set(np.unique(out)) == {0.0, 1.0}
    assert out.min((1, 2, 3)).max() == 1  # some image is not shifted
    sides = {int(image[0].any(0).sum()) for image in out}
    assert sides == {6, 7, 8}


def test_crop_is_numpys_padding_cut_at_the_draws():
    raw = images(16)
    out = ImagePipeline((0.0,) * 3, (1 / 255,) * 3, ImageAugment(crop=3)).train(raw, draws(16)).numpy()
    padded = np.pad(raw, ((0, 0), (0, 0), (3, 3), (3, 3)))
    for sample, (row, column) in enumerate(draws(16).integers(0, 7, 2)):
        np.testing.assert_allclose(out[sample], padded[sample, :, row : row + 12, column : column + 12], rtol=1e-6)


def test_flip_mirrors_about_half():
    raw = images(400, 4)
    mirrored = np.array([draws(400).integers(0, 2, 1)[:, 0] == 1])[0]
    out = flipped(raw, mirrored)
    assert 150 < mirrored.sum() < 250
    assert np.array_equal(out[mirrored], raw[mirrored, :, :, ::-1])
    assert np.array_equal(out[~mirrored], raw[~mirrored])


def test_cutout_by_hand():
    ones = np.ones((2, 1, 6, 6), np.float32)
    out = cut_out(ones, np.array([[3, 3], [0, 5]]), 2)
    assert (out[0, 0] == 0).nonzero()[0].tolist() == [2, 2, 3, 3]
    assert (out[0, 0] == 0).nonzero()[1].tolist() == [2, 3, 2, 3]
    assert np.argwhere(out[1, 0] == 0).tolist() == [[0, 4], [0, 5]]
    assert ones.all()


def test_cutout_is_the_mean():
    out = ImagePipeline(MEAN, STD, ImageAugment(cutout=4)).train(images(), draws(16))
    for image in out:
        assert 0 < int((image == 0).all(0).sum()) <= 16


@pytest.mark.parametrize("policy", ["cifar10", "imagenet", "svhn"])
def test_autoaugment_is_torchvisions_with_our_draws(policy):
    from PIL import Image
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    raw = images(40, 16)
    state = torch.random.get_rng_state()
    out = autoaugmented(raw, policy, draws(40))
    assert torch.equal(torch.random.get_rng_state(), state)
    same = draws(40)
    transform = AutoAugment(AutoAugmentPolicy(policy))
    places = same.integers(0, len(transform.policies), 1)[:, 0]
    chances, signs = same.uniform(2), same.integers(0, 2, 2)
    changed = 0
    for index in range(40):
        transform.get_params = lambda _n, i=index: (int(places[i]), torch.tensor(chances[i]), torch.tensor(signs[i]))
        expected = np.asarray(transform(Image.fromarray(raw[index].transpose(1, 2, 0)))).transpose(2, 0, 1)
        assert np.array_equal(out[index], expected)
        changed += not np.array_equal(out[index], raw[index])
    assert changed > 20


def test_what_happens_to_a_sample_does_not_depend_on_the_ranks():
    raw = images(12, 8)
    pipeline = ImagePipeline(MEAN, STD, ImageAugment(autoaugment="cifar10", crop=2, flip=True, cutout=3))
    whole = pipeline.train(raw, draws(12))
    for rank in range(3):
        mine = np.arange(rank, 12, 3)
        assert torch.equal(pipeline.train(raw[mine], draws(12, mine=mine)), whole[mine])


def frames(count=8, steps=3, size=10):
    return np.random.default_rng(0).integers(0, 5, (count, steps, 2, size, size), dtype=np.uint8)


def test_frames_become_time_first():
    raw = frames()
    out = FramePipeline(EventAugment()).evaluate(raw)
    assert out.shape == (3, 8, 2, 10, 10)
    assert out.dtype == torch.float32
    assert out.is_contiguous()
    assert np.array_equal(out.numpy(), raw.swapaxes(0, 1))


def test_roll_wraps_around_alike_in_all_frames():
    raw = frames(32)
    out = FramePipeline(EventAugment(roll=3)).train(raw, draws(32)).numpy()
    shifts = set()
    for index in range(32):
        found = [
            (dy, dx)
            for dy in range(-3, 4)
            for dx in range(-3, 4)
            if np.array_equal(np.roll(raw[index], (dy, dx), (-2, -1)), out[:, index])
        ]
        assert len(found) == 1
        shifts.add(found[0])
    assert len(shifts) > 10


def test_event_flip_keeps_every_event():
    raw = frames(32)
    out = FramePipeline(EventAugment(flip=True)).train(raw, draws(32)).numpy()
    mirrored = [np.array_equal(out[:, i], raw[i, ..., ::-1]) for i in range(32)]
    same = [np.array_equal(out[:, i], raw[i]) for i in range(32)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 0 < sum(mirrored) < 32
