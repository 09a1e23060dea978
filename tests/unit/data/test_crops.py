from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from snnsc.data.crops import ATTEMPTS, crop_box, resized_crop, resized_crops


@pytest.fixture
def torchvisions(monkeypatch):
    """torchvision's own RandomResizedCrop, with the given numbers in the place of its random ones."""
    from torchvision.transforms import v2

    def transform(size, chances_A4):
        flat = iter(chances_A4.reshape(-1).tolist())
        numbers: list[float] = []

        def uniform(low, high):
            if not numbers:  # a new attempt
                numbers.extend(next(flat) for _ in range(4))
            return torch.tensor([float(low) + numbers.pop(0) * (float(high) - float(low))], dtype=torch.float64)

        def randint(low, high, size):  # noqa: ARG001
            return torch.tensor([low + int(numbers.pop(0) * (high - low))])

        def area_and_ratio(_count):
            if len(numbers) == 2:  # of an attempt that did not fit
                numbers.clear()
            return SimpleNamespace(uniform_=uniform)

        monkeypatch.setattr(torch, "empty", area_and_ratio)
        monkeypatch.setattr(torch, "randint", randint)
        crop = v2.RandomResizedCrop(size)
        crop._log_ratio = crop._log_ratio.double()
        return crop

    yield transform
    monkeypatch.undo()


SHAPES = [(32, 32), (50, 40), (40, 50), (300, 20), (20, 300), (8, 8), (1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_box_and_pixels_are_torchvisions(torchvisions, shape):
    rng = np.random.default_rng(shape)
    image = Image.fromarray(rng.integers(0, 256, (shape[1], shape[0], 3), dtype=np.uint8))
    for _ in range(20):
        chances = rng.random((ATTEMPTS, 4))
        expected = torchvisions(16, chances)(image)
        assert np.array_equal(np.asarray(resized_crop(image, 16, chances)), np.asarray(expected))


@pytest.mark.parametrize("shape", SHAPES)
def test_boxes_lie_inside(shape):
    rng = np.random.default_rng(1)
    for chances in (*rng.random((50, ATTEMPTS, 4)), np.zeros((ATTEMPTS, 4)), np.full((ATTEMPTS, 4), 1 - 1e-16)):
        left, top, right, bottom = crop_box(*shape, chances)
        assert 0 <= left < right <= shape[0]
        assert 0 <= top < bottom <= shape[1]


def test_areas_and_ratios_are_spread_over_their_ranges():
    boxes = np.array(
        [crop_box(1000, 1000, chances) for chances in np.random.default_rng(2).random((2000, ATTEMPTS, 4))]
    )
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    areas, ratios = widths * heights / 1e6, widths / heights
    assert 0.08 <= areas.min() + 1e-3 < 0.1
    assert areas.max() > 0.95
    assert ratios.min() == pytest.approx(3 / 4, abs=0.01)
    assert ratios.max() == pytest.approx(4 / 3, abs=0.01)
    assert np.log(ratios).mean() == pytest.approx(0, abs=0.02)


def test_where_nothing_fits_it_is_the_largest_centred_crop():
    assert crop_box(20, 300, np.full((ATTEMPTS, 4), 0.999)) == (0, 136, 20, 163)
    assert crop_box(300, 20, np.full((ATTEMPTS, 4), 0.999)) == (136, 0, 163, 20)


@pytest.mark.parametrize("channels", [1, 3])
def test_crops_of_arrays_are_those_of_the_images(channels):
    rng = np.random.default_rng(3)
    images, chances = rng.integers(0, 256, (6, channels, 12, 12), dtype=np.uint8), rng.random((6, ATTEMPTS, 4))
    out = resized_crops(images, chances)
    assert out.shape == images.shape
    for index in range(6):
        image = Image.fromarray(images[index].transpose(1, 2, 0).squeeze())
        expected = np.asarray(resized_crop(image, 12, chances[index])).reshape(12, 12, channels)
        assert np.array_equal(out[index], expected.transpose(2, 0, 1))
