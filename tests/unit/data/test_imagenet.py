"""ImageNet in miniature: torchvision's layout, a few folders in the place of 1,000."""

import numpy as np
import pytest
from PIL import Image

from snnsc.data import build_loaders
from snnsc.data.image_folder import IMAGENET
from snnsc.errors import DataError
from snnsc.recipe.schema import ImagenetSpec

WNIDS = ("n01440764", "n01443537", "n03180011")
USUAL = {"type": "imagenet", "size": 14, "augment": {"resized_crop": True, "flip": True}}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(ImagenetSpec, "classes", len(WNIDS))
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for wnid in WNIDS:
            folder = tmp_path / "imagenet" / split / wnid
            folder.mkdir(parents=True)
            for index in range(count):
                width, height = rng.integers(20, 60, 2)
                pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{wnid}_{index}.JPEG", "JPEG")
    (tmp_path / "imagenet" / "test").mkdir()
    (tmp_path / "imagenet" / "test" / "ILSVRC2012_test_00000001.JPEG").write_bytes(b"has no label")
    return tmp_path


def test_facts(root, recipe):
    loaders = build_loaders(recipe(**USUAL), root)
    assert (loaders.train.samples, loaders.test.samples) == (12, 6)
    assert loaders.facts.classes == WNIDS
    assert (loaders.facts.mean, loaders.facts.std) == IMAGENET
    assert loaders.test.labels_N.tolist() == [0, 0, 1, 1, 2, 2]
    inputs, _ = next(loaders.train.batches(0))
    assert inputs.shape == (8, 3, 14, 14)


def test_evaluation_is_torchvisions(root, recipe):
    from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

    transform = Compose([Resize(16), CenterCrop(14), ToTensor(), Normalize(*IMAGENET)])
    files = sorted((root / "imagenet" / "val").rglob("*.JPEG"))
    inputs, _ = next(build_loaders(recipe(**USUAL), root).test.batches())
    for path, ours in zip(files, inputs, strict=True):
        assert ours.equal(transform(Image.open(path)))


def test_training_crops_the_whole_image(root, recipe):
    from snnsc.data.augment import Draws
    from snnsc.data.crops import ATTEMPTS, CHANCES, resized_crop
    from snnsc.data.splits import AUGMENT, ORDER, generator

    made = recipe(**{**USUAL, "augment": {"resized_crop": True}})
    files = sorted((root / "imagenet" / "train").rglob("*.JPEG"))
    inputs, labels = next(build_loaders(made, root).train.batches(5))
    order = generator(ORDER, 0, 5).permutation(12)[:8]
    chances = Draws(generator(AUGMENT, 0, 5, 0), 8, np.arange(8)).uniform(CHANCES).reshape(8, ATTEMPTS, 4)
    mean, std = (np.array(values)[:, None, None] for values in IMAGENET)
    for index, place in enumerate(order):
        cropped = np.asarray(resized_crop(Image.open(files[place]), 14, chances[index])).transpose(2, 0, 1)
        assert np.allclose(inputs[index].numpy(), (cropped / 255 - mean) / std, atol=1e-5)
        assert labels[index] == place // 4


def test_nothing_of_the_training_images_is_kept_on_disk(root, recipe):
    loaders = build_loaders(recipe(**USUAL), root)
    assert set(loaders.facts.cache_keys) == {"test"}
    assert not [path for path in (root / ".snnsc-cache").iterdir() if "train" in path.name]


def test_batches_resume_and_do_not_depend_on_the_ranks(root, recipe):
    made = recipe(batch_size=4, **USUAL)
    whole = [x for x, _ in build_loaders(made, root).train.batches(1)]
    tail = [x for x, _ in build_loaders(made, root).train.batches(1, start=2)]
    assert all(a.equal(b) for a, b in zip(tail, whole[2:], strict=True))
    second = [x for x, _ in build_loaders(made, root, rank=1, world_size=2).train.batches(1)]
    assert all(a.equal(b[1::2]) for a, b in zip(second, whole, strict=True))


def test_limits_and_validation(root, recipe):
    loaders = build_loaders(recipe(validation=0.25, train_limit=6, test_limit=3, **USUAL), root)
    assert (loaders.train.samples, loaders.validation.samples, loaders.test.samples) == (6, 3, 3)
    inputs, labels = next(loaders.validation.batches())
    assert inputs.shape == (3, 3, 14, 14)
    assert sorted(labels.tolist()) == [0, 1, 2]


def test_without_a_resized_crop_training_sees_the_middle(root, recipe):
    loaders = build_loaders(recipe(type="imagenet", size=14), root)
    assert loaders.train.crops is None
    assert set(loaders.facts.cache_keys) == {"train", "test"}


def test_not_there(tmp_path, recipe):
    with pytest.raises(DataError, match=r"imagenet: no such folder.*not downloaded.*image-net\.org.*val/<wnid>.*1000"):
        build_loaders(recipe(type="imagenet"), tmp_path)


def test_validation_images_that_are_not_in_folders(root, recipe):
    val = root / "imagenet" / "val"
    for path in sorted(val.rglob("*.JPEG")):
        path.rename(val / path.name)
    for wnid in WNIDS:
        (val / wnid).rmdir()
    with pytest.raises(DataError, match=r"val: 0 class folders \(none\), but the recipe says 3 classes; .*val/<wnid>"):
        build_loaders(recipe(**USUAL), root)


def test_a_damaged_image_is_named_without_the_advice_to_get_imagenet(root, recipe):
    (root / "imagenet" / "train" / WNIDS[1] / f"{WNIDS[1]}_2.JPEG").write_bytes(b"text")
    with pytest.raises(DataError, match=r"n01443537_2\.JPEG: cannot be decoded") as caught:
        list(build_loaders(recipe(batch_size=12, **USUAL), root).train.batches(0))
    assert "image-net.org" not in str(caught.value)


def test_cmyk_and_a_png_under_the_name_of_a_jpeg(root, recipe):
    folder = root / "imagenet" / "val" / WNIDS[0]
    Image.new("CMYK", (30, 30), (0, 255, 255, 0)).save(folder / f"{WNIDS[0]}_0.JPEG", "JPEG")
    Image.new("RGB", (30, 30), (0, 0, 255)).save(folder / f"{WNIDS[0]}_1.JPEG", "PNG")
    pixels = build_loaders(recipe(**USUAL), root).test.source.read(np.arange(2))
    assert pixels[0, 0].min() > 200
    assert pixels[1, 2].min() == 255
    assert pixels[:, 1].max() < 60


def test_its_classes_are_a_thousand():
    assert ImagenetSpec.classes == 1000
