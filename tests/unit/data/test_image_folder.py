import numpy as np
import pytest
from PIL import Image

from snnsc.data import build_loaders, image_folder
from snnsc.data.decode import decode_image
from snnsc.data.image_folder import LazyImages, grey
from snnsc.errors import DataError

from .disk import image_tree

FOLDER = {"type": "image-folder", "folder": "pets", "size": 8, "classes": 2}


@pytest.fixture
def root(tmp_path):
    image_tree(tmp_path / "pets")
    return tmp_path


def counted(monkeypatch):
    calls = []
    monkeypatch.setattr("snnsc.data.decode.decode_image", lambda *a: calls.append(a) or decode_image(*a))
    return calls


def test_loads(root, recipe):
    seen = []
    loaders = build_loaders(recipe(batch_size=4, **FOLDER), root, progress=lambda *done: seen.append(done))
    assert (loaders.train.samples, loaders.test.samples) == (12, 12)
    assert loaders.facts.classes == ("cat", "dog")
    assert loaders.facts.mean == (0.485, 0.456, 0.406)
    assert len(loaders.facts.files_sha256) == 64
    assert seen[-1] == ("pets/test: decode images", 12, 12)
    inputs, labels = next(loaders.train.batches(0))
    assert inputs.shape == (4, 3, 8, 8)
    assert set(labels.tolist()) <= {0, 1}


def test_decoding_is_torchvisions_resize_and_crop(root):
    from torchvision.transforms import CenterCrop, Compose, Resize

    transform = Compose([Resize(8), CenterCrop(8)])
    for path in sorted(root.rglob("*.jpg"))[:5]:
        expected = np.asarray(transform(Image.open(path).convert("RGB"))).transpose(2, 0, 1)
        assert np.array_equal(decode_image(path, 8, 3), expected)


@pytest.mark.parametrize("size", [(9, 31), (31, 9), (8, 8), (100, 101), (3, 5)])
def test_any_shape_becomes_a_square(tmp_path, size):
    from torchvision.transforms import CenterCrop, Compose, Resize

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    image.save(tmp_path / "a.png")
    expected = np.asarray(Compose([Resize(8), CenterCrop(8)])(image)).transpose(2, 0, 1)
    assert np.array_equal(decode_image(tmp_path / "a.png", 8, 3), expected)


def test_modes(tmp_path):
    Image.new("RGBA", (8, 8), (10, 20, 30, 128)).save(tmp_path / "rgba.png")
    Image.fromarray(np.full((8, 8), 0x4210, np.uint16)).save(tmp_path / "grey16.png")
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 40, 50, 60])
    palette.save(tmp_path / "p.png", transparency=b"\x00\x80")
    assert decode_image(tmp_path / "rgba.png", 8, 3)[:, 0, 0].tolist() == [10, 20, 30]
    assert decode_image(tmp_path / "grey16.png", 8, 1)[0, 0, 0] == 0x42
    assert decode_image(tmp_path / "p.png", 8, 3)[:, 0, 0].tolist() == [40, 50, 60]


def test_grey(root, recipe):
    loaders = build_loaders(recipe(channels=1, **FOLDER), root)
    inputs, _ = next(loaders.test.batches())
    assert inputs.shape[1:] == (1, 8, 8)
    assert loaders.facts.mean == (grey((0.485, 0.456, 0.406)),) == (0.459,)
    assert loaders.facts.channels == ("grey",)


def test_own_statistics(root, recipe):
    loaders = build_loaders(recipe(mean=[0.1, 0.2, 0.3], std=[1.0, 1.0, 1.0], **FOLDER), root)
    assert (loaders.facts.mean, loaders.facts.std) == ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))


def test_resized_crops_are_of_the_whole_files(root, recipe):
    from snnsc.data.augment import Draws
    from snnsc.data.crops import ATTEMPTS, CHANCES, resized_crop
    from snnsc.data.splits import AUGMENT, ORDER, generator

    zero_one = {"mean": [0.0] * 3, "std": [1.0] * 3}
    loaders = build_loaders(recipe(augment={"resized_crop": True}, **zero_one, **FOLDER), root)
    inputs, _ = next(loaders.train.batches(0))
    files = sorted((root / "pets" / "train").rglob("*.jpg"))
    order = generator(ORDER, 0, 0).permutation(12)[:8]
    chances = Draws(generator(AUGMENT, 0, 0, 0), 8, np.arange(8)).uniform(CHANCES).reshape(8, ATTEMPTS, 4)
    for index, place in enumerate(order):
        expected = np.asarray(resized_crop(Image.open(files[place]), 8, chances[index])).transpose(2, 0, 1)
        assert np.array_equal(np.rint(inputs[index].numpy() * 255), expected)
    assert set(loaders.facts.cache_keys) == {"test"}


def test_second_run_decodes_nothing(root, recipe, monkeypatch):
    first = build_loaders(recipe(**FOLDER), root)
    calls = counted(monkeypatch)
    second = build_loaders(recipe(**FOLDER), root)
    assert calls == []
    assert first.facts == second.facts
    build_loaders(recipe(**{**FOLDER, "size": 9}), root)
    assert len(calls) == 24


def test_a_changed_file_is_read_again(root, recipe, monkeypatch):
    before = build_loaders(recipe(**FOLDER), root).facts
    Image.new("RGB", (8, 8)).save(root / "pets" / "test" / "cat" / "0.jpg")
    calls = counted(monkeypatch)
    after = build_loaders(recipe(**FOLDER), root).facts
    assert len(calls) == 12  # the test split alone
    assert before.cache_keys["test"] != after.cache_keys["test"]
    assert before.cache_keys["train"] == after.cache_keys["train"]
    assert before.files_sha256 == after.files_sha256


def test_lazy_images_are_the_cached_ones(root, recipe, monkeypatch):
    kept = build_loaders(recipe(augment={"crop": 1, "flip": True}, **FOLDER), root)
    monkeypatch.setattr(image_folder, "CACHED_BYTES", 100)
    lazy = build_loaders(recipe(augment={"crop": 1, "flip": True}, **FOLDER), root)
    assert isinstance(lazy.train.source, LazyImages)
    assert lazy.facts.cache_keys == {}
    for (a, b), (c, d) in zip(kept.train.batches(1), lazy.train.batches(1), strict=True):
        assert a.equal(c)
        assert b.equal(d)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda _: b"", lambda _: b"text, not an image"])
def test_damaged_image(root, recipe, monkeypatch, lazy, damage):
    path = root / "pets" / "train" / "dog" / "3.jpg"
    path.write_bytes(damage(path.read_bytes()))
    if lazy:
        monkeypatch.setattr(image_folder, "CACHED_BYTES", 100)
    with pytest.raises(DataError, match=r"dog/3\.jpg: cannot be decoded as an image"):
        list(build_loaders(recipe(batch_size=12, **FOLDER), root).train.batches(0))
    assert not list(root.rglob("*.tmp"))


def test_val_in_the_place_of_test(root, recipe):
    (root / "pets" / "test").rename(root / "pets" / "Val")
    assert build_loaders(recipe(**FOLDER), root).test.samples == 12


def test_evaluation_does_not_need_the_training_folder(root, recipe):
    (root / "pets" / "train").rename(root / "elsewhere")
    assert build_loaders(recipe(**FOLDER), root, train=False).facts.train_files_sha256 is None
    with pytest.raises(DataError, match="no split folder train/"):
        build_loaders(recipe(**FOLDER), root)


def test_test_classes_unlike_train(root, recipe):
    (root / "pets" / "test" / "dog").rename(root / "pets" / "test" / "fox")
    with pytest.raises(DataError, match="only in one of them: dog, fox"):
        build_loaders(recipe(**FOLDER), root)


def test_missing_root_and_folder(root, recipe):
    with pytest.raises(DataError, match="no such data root"):
        build_loaders(recipe(**FOLDER), root / "nowhere")
    with pytest.raises(DataError, match=r"data\.folder = 'cars'"):
        build_loaders(recipe(**{**FOLDER, "folder": "cars"}), root)


def test_cache_that_cannot_be_written(root, recipe, monkeypatch):
    (root / "file").write_text("")
    monkeypatch.setenv("SNNSC_CACHE", str(root / "file" / "cache"))
    with pytest.raises(DataError, match="SNNSC_CACHE"):
        build_loaders(recipe(**FOLDER), root)
