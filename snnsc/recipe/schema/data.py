"""What to train on: `[data]`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from snnsc.recipe.schema.spec import FolderName, NonNegative, Positive, Share, Size, Spec


class ImageAugment(Spec):
    """Training-only changes of an image, in this order: resized crop, AutoAugment, crop, flip, cutout."""

    autoaugment: Literal["cifar10", "imagenet", "svhn"] | None = None
    """torchvision's AutoAugment policy learned on that data set."""
    crop: int = Field(default=0, ge=0, le=64)
    """Zero padding in pixels on each side before a random crop back to `size`; 0 is off."""
    flip: bool = False
    """Mirror left-right with probability 1/2."""
    cutout: int = Field(default=0, ge=0, le=512)
    """Side in pixels of a random square set to the mean; 0 is off."""
    resized_crop: bool = False
    """torchvision's RandomResizedCrop to `size` in place of resizing and `crop`, as usual on ImageNet."""
    mixup: NonNegative = 0.0
    """alpha of torchvision's MixUp of the images of a batch; 0 is off; with `cutmix`, one of both is drawn a batch."""
    cutmix: NonNegative = 0.0
    """alpha of torchvision's CutMix of the images of a batch; 0 is off."""


class EventAugment(Spec):
    """Training-only changes of an event sample, the same for all of its T frames."""

    flip: bool = False
    """Mirror left-right with probability 1/2."""
    roll: int = Field(default=0, ge=0, le=64)
    """Random wrap-around shift of up to this many pixels (fewer than `data.size`) along each axis; 0 is off."""
    mixup: NonNegative = 0.0
    """alpha of torchvision's MixUp of the frames of a batch; 0 is off; with `cutmix`, one of both is drawn a batch."""
    cutmix: NonNegative = 0.0
    """alpha of torchvision's CutMix of the frames of a batch; 0 is off."""


class DataBase(Spec):
    """Keys that every data set has."""

    is_event: ClassVar[bool]

    root: str | None = None
    """Folder that holds the data sets; `--data-root` goes before it, `SNNSC_DATA` and then `data` come after it."""
    validation: Share = 0.0
    """Share of the training samples, stratified by class, kept apart to choose `best.pt`; 0 is none."""
    train_limit: int | None = Field(default=None, ge=1)
    """Train on this many samples only, stratified by class and drawn by `seed`."""
    test_limit: int | None = Field(default=None, ge=1)
    """Evaluate on this many samples only, stratified by class and drawn by `seed`."""
    workers: int = Field(default=0, ge=0, le=64)
    """Processes that decode images too many to hold in memory, or build a frame cache; 0 picks by processor count."""


class ImageBase(DataBase):
    """Keys that every set of static images has; an image is fed at every time step."""

    is_event: ClassVar[bool] = False

    augment: ImageAugment = ImageAugment()
    """Training-only changes of the images."""


class DigitsSpec(ImageBase):
    """scikit-learn's 1,797 8x8 digits; they come with the package and need no folder."""

    type: Literal["digits"]
    """The data set."""
    size: Size = 8
    """Side of the square image in pixels; other sizes are resized."""
    channels: ClassVar[int] = 1
    classes: ClassVar[int] = 10


class MnistSpec(ImageBase):
    """MNIST or Fashion-MNIST, downloaded on first use by torchvision."""

    type: Literal["mnist", "fashion-mnist"]
    """The data set."""
    size: Size = 28
    """Side of the square image in pixels; other sizes are resized."""
    channels: ClassVar[int] = 1
    classes: ClassVar[int] = 10


class Cifar10Spec(ImageBase):
    """CIFAR-10, downloaded on first use by torchvision."""

    type: Literal["cifar10"]
    """The data set."""
    size: Size = 32
    """Side of the square image in pixels; other sizes are resized."""
    channels: ClassVar[int] = 3
    classes: ClassVar[int] = 10


class Cifar100Spec(ImageBase):
    """CIFAR-100, downloaded on first use by torchvision."""

    type: Literal["cifar100"]
    """The data set."""
    size: Size = 32
    """Side of the square image in pixels; other sizes are resized."""
    channels: ClassVar[int] = 3
    classes: ClassVar[int] = 100


class ImageFolderSpec(ImageBase):
    """Images in `folder`/train/<class>/ and `folder`/test/<class>/ (or val/)."""

    type: Literal["image-folder"]
    """The data set."""
    folder: FolderName
    """Folder under the data root."""
    size: Size
    """Side of the square image in pixels; others are resized (shorter side) and cropped at the centre."""
    classes: int = Field(ge=2, le=100_000)
    """Number of class folders."""
    channels: Literal[1, 3] = 3
    """1 reads the images as grey, 3 as RGB."""
    mean: tuple[float, ...] | None = None
    """Mean of each channel for pixel values in 0..1; default ImageNet's."""
    std: tuple[Positive, ...] | None = None
    """Standard deviation of each channel for pixel values in 0..1; default ImageNet's."""


class ImagenetSpec(ImageBase):
    """ImageNet-1k as torchvision lays it out: `folder`/train/<wnid>/ and `folder`/val/<wnid>/; not downloaded."""

    type: Literal["imagenet"]
    """The data set."""
    folder: FolderName = "imagenet"
    """Folder under the data root."""
    size: Size = 224
    """Side of the square image in pixels; in evaluation the shorter side is resized to size * 256/224, then cropped."""
    channels: ClassVar[int] = 3
    classes: ClassVar[int] = 1000


class EventBase(DataBase):
    """Keys that every set of event recordings has; a recording becomes model.T frames [T, 2, size, size]."""

    is_event: ClassVar[bool] = True
    channels: ClassVar[int] = 2

    slicing: Literal["time", "count"] = "time"
    """Cut a recording into T parts of equal duration or of equal number of events."""
    augment: EventAugment = EventAugment()
    """Training-only changes of the frames."""


class EventFolderSpec(EventBase):
    """Recordings in `folder`/train/<class>/ and `folder`/test/<class>/ (or val/): .bin, .aedat4, .aedat, .npy, .npz."""

    type: Literal["event-folder"]
    """The data set."""
    folder: FolderName
    """Folder under the data root."""
    size: Size
    """Side of the square frame in pixels; other sensor sizes are resized."""
    classes: int = Field(ge=2, le=100_000)
    """Number of class folders."""
    sensor: tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)]] | None = None
    """Sensor width and height in pixels; needed for .npy and .npz, else taken from the file format."""


class NmnistSpec(EventBase):
    """N-MNIST, 34x34, downloaded on first use by tonic."""

    type: Literal["nmnist"]
    """The data set."""
    size: Size = 34
    """Side of the square frame in pixels; other sizes are resized."""
    classes: ClassVar[int] = 10


class Cifar10DvsSpec(EventBase):
    """CIFAR10-DVS, 128x128: the original .aedat files where they lie, else tonic's aedat4 repack, downloaded."""

    type: Literal["cifar10dvs"]
    """The data set."""
    size: Size = 48
    """Side of the square frame in pixels."""
    split_seed: int = Field(default=0, ge=0)
    """Seed of the stratified 9:1 split into training and test recordings."""
    classes: ClassVar[int] = 10


class Dvs128GestureSpec(EventBase):
    """DVS128 Gesture, 128x128, downloaded on first use by tonic; 11 classes."""

    type: Literal["dvs128gesture"]
    """The data set."""
    size: Size = 48
    """Side of the square frame in pixels."""
    classes: ClassVar[int] = 11


class Ncaltech101Spec(EventBase):
    """N-Caltech101, up to 240x180, downloaded on first use by tonic; 101 classes, split 9:1."""

    type: Literal["ncaltech101"]
    """The data set."""
    size: Size = 48
    """Side of the square frame in pixels."""
    split_seed: int = Field(default=0, ge=0)
    """Seed of the stratified 9:1 split into training and test recordings."""
    classes: ClassVar[int] = 101


DataSpec = Annotated[
    DigitsSpec
    | MnistSpec
    | Cifar10Spec
    | Cifar100Spec
    | ImageFolderSpec
    | ImagenetSpec
    | EventFolderSpec
    | NmnistSpec
    | Cifar10DvsSpec
    | Dvs128GestureSpec
    | Ncaltech101Spec,
    Field(discriminator="type"),
]
