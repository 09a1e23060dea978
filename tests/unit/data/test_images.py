import warnings

import numpy as np
import pytest

from snnsc.data import build_loaders
from snnsc.errors import DataError

from .disk import write_mnist


def raw(batches):
    """All stored pixels of an evaluation loader, in order."""
    return batches.source.read(batches.chosen_M)


def test_digits_are_split_80_20_by_the_seed(recipe, tmp_path):
    loaders = build_loaders(recipe(type="digits"), tmp_path / "not needed")
    assert (loaders.train.samples, loaders.test.samples) == (1438, 359)
    assert loaders.facts.split_seed == 0
    again = build_loaders(recipe(type="digits"), tmp_path)
    other = build_loaders(recipe(type="digits", seed=1), tmp_path)
    assert np.array_equal(raw(loaders.test), raw(again.test))
    assert not np.array_equal(raw(loaders.test), raw(other.test))
    per_class = np.bincount(loaders.test.labels_N)
    assert per_class.min() >= 34
    assert per_class.max() <= 38


def test_digits_statistics_are_those_of_all_images():
    from sklearn.datasets import load_digits

    from snnsc.data.images import DIGITS_NORM

    pixels = np.round(load_digits().images * (255 / 16)) / 255
    assert ((round(pixels.mean(), 4),), (round(pixels.std(), 4),)) == DIGITS_NORM


def test_resized_digits(recipe, tmp_path):
    inputs, _ = next(build_loaders(recipe(type="digits", size=16), tmp_path).test.batches())
    assert inputs.shape[1:] == (1, 16, 16)


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_mnist(recipe, tmp_path, name, folder):
    arrays = write_mnist(tmp_path, folder=folder)
    loaders = build_loaders(recipe(type=name), tmp_path)
    assert (loaders.train.samples, loaders.test.samples) == (40, 20)
    assert np.array_equal(raw(loaders.test)[:, 0], arrays["t10k-images-idx3-ubyte"])
    assert loaders.test.labels_N.tolist() == list(range(10)) * 2
    assert len(loaders.facts.classes) == 10
    inputs, labels = next(loaders.train.batches(0))
    assert inputs.shape == (8, 1, 28, 28)
    assert labels.shape == (8,)


def test_mnist_test_only(recipe, tmp_path):
    write_mnist(tmp_path)
    loaders = build_loaders(recipe(type="mnist"), tmp_path, train=False)
    assert loaders.train is None
    assert loaders.validation is None
    assert loaders.facts.train_samples is None
    assert loaders.facts.test_samples == 20


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("train-images-idx3-ubyte", lambda b: b[:-5]),
        ("train-images-idx3-ubyte", lambda _: b""),
        ("train-labels-idx1-ubyte", lambda b: b[:-5]),
        ("train-labels-idx1-ubyte", lambda b: b[:8] + b"\x0b" * (len(b) - 8)),
        ("t10k-images-idx3-ubyte", lambda _: b"text in the place of an image file"),
        ("t10k-labels-idx1-ubyte", None),
    ],
)
def test_damaged_mnist(recipe, tmp_path, name, damage):
    write_mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / name
    path.unlink() if damage is None else path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"MNIST: mnist is incomplete or damaged.*remove this folder"):
        build_loaders(recipe(type="mnist"), tmp_path)


def test_cifar10(recipe, cifar):
    root, written = cifar
    loaders = build_loaders(recipe(type="cifar10"), root)
    assert (loaders.train.samples, loaders.test.samples) == (50, 10)
    assert np.array_equal(raw(loaders.test), written["test_batch"].reshape(-1, 3, 32, 32))
    assert loaders.facts.classes == tuple(f"c{i}" for i in range(10))
    inputs, _ = next(loaders.train.batches(0))
    assert inputs.shape == (8, 3, 32, 32)


def test_cifar100(recipe, cifar):
    root, written = cifar
    loaders = build_loaders(recipe(type="cifar100", size=24), root)
    assert raw(loaders.test).shape == (100, 3, 24, 24)
    assert written["test"].shape == (100, 3072)


def test_cifar_with_resized_crops(recipe, cifar):
    root, _ = cifar
    loaders = build_loaders(recipe(type="cifar10", augment={"resized_crop": True, "autoaugment": "cifar10"}), root)
    inputs, _ = next(loaders.train.batches(0))
    assert inputs.shape == (8, 3, 32, 32)
    assert next(loaders.train.batches(0))[0].equal(inputs)
    assert not next(loaders.train.batches(1))[0].equal(inputs)


def test_cifar_with_a_wrong_hash(recipe, cifar):
    root, _ = cifar
    path = root / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="cifar10 is incomplete or damaged"):
        build_loaders(recipe(type="cifar10"), root)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("mnist", "MNIST/raw"),
        ("fashion-mnist", "FashionMNIST/raw"),
        ("cifar10", "cifar-10-batches-py"),
        ("cifar100", "cifar-100-python"),
        ("nmnist", "NMNIST/Train/<digit>"),
        ("cifar10dvs", "CIFAR10DVS/<class>"),
        ("dvs128gesture", "DVSGesture/ibmGestureTrain/<user>_<light>/<label>"),
        ("ncaltech101", "NCALTECH101/Caltech101/<class>"),
    ],
)
def test_no_network_says_what_to_put_where(recipe, tmp_path, monkeypatch, capfd, name, place):
    def offline(*_args, **_kwargs):
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries' own import
        import tonic  # noqa: F401
    with pytest.raises(DataError, match=rf"{name}: the download failed .*{place}") as caught:
        build_loaders(recipe(type=name), tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in (tmp_path / "new").iterdir()] == [".snnsc-download.lock"]


def test_a_download_is_moved_into_place(recipe, tmp_path, monkeypatch, capsys):
    from torchvision.datasets import MNIST

    def fake_download(self):
        print("chatter of the library")  # noqa: T201
        from pathlib import Path

        write_mnist(Path(self.root))

    monkeypatch.setattr(MNIST, "download", fake_download)
    seen = []
    loaders = build_loaders(recipe(type="mnist"), tmp_path, progress=lambda *done: seen.append(done))
    assert loaders.test.samples == 20
    assert seen == [("mnist: download", 0, 1), ("mnist: download", 1, 1)]
    assert capsys.readouterr().out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == [".snnsc-download.lock", "MNIST"]


def test_a_root_that_cannot_be_written(recipe, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be stored there.*SNNSC_DATA"):
        build_loaders(recipe(type="mnist"), tmp_path / "file" / "data")
