"""Image data sets, standardised: generated ones by name, others from files under `$PEACE_DATA/images`."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from peace.datasets import DATASETS
from peace.datasets.readers import TRAIN_IMAGES, Pixels, read_idx, read_npz
from peace.errors import InputError, did_you_mean


@dataclass(frozen=True, eq=False)
class ImageData:
    """A classification data set of images in memory. Tensors are shared by all who load it: do not write to them.

    Args:
        name: The data set's name.
        x_train: Training images, standardised. Shape: [N_train, C, H, W] float32.
        y_train: Training labels. Shape: [N_train] int64, in 0..len(classes) - 1.
        x_test: Test images. Shape: [N_test, C, H, W] float32.
        y_test: Test labels. Shape: [N_test] int64.
        classes: The names of the classes, in the order of their labels; some may have no image.

    Raises:
        InputError: A shape or type differs, a part is empty, or a label is out of range.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        """Checks shapes, types and labels."""
        for part, x, y in (("train", self.x_train, self.y_train), ("test", self.x_test, self.y_test)):
            where = f"data set '{self.name}', {part} part"
            if x.ndim != 4 or not x.numel() or x.dtype != torch.float32:
                raise InputError("wrong images", where=where, got=_kind(x), expected="float32 [N, C, H, W] with N > 0")
            if y.shape != x.shape[:1] or y.dtype != torch.int64:
                raise InputError("wrong labels", where=where, got=_kind(y), expected=f"int64 [{len(x)}]")
            if y.min() < 0 or y.max() >= len(self.classes):
                got, expected = f"{y.min()}..{y.max()}", f"0..{len(self.classes) - 1}"
                raise InputError("labels out of range", where=where, got=got, expected=expected)
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            got, expected = list(self.x_test.shape[1:]), f"{list(self.x_train.shape[1:])} as in training"
            raise InputError(
                "test images of another shape", where=f"data set '{self.name}'", got=got, expected=expected
            )


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def standardised(name: str, pixels: Pixels) -> ImageData:
    """Returns the data set whose training pixels have mean 0 and standard deviation 1 over all images and channels.

    x = (p/w - mean(p/w)) / std(p/w) with the training set's two scalars, also for the test images. The white level w,
    by which pixels are scaled to [0, 1], cancels. The standard deviation is the population's; both scalars come from
    exact integer sums, so they are the same on every machine.

    Args:
        name: The data set's name.
        pixels: uint8 images, grey [N, H, W] or with 1, 3 or 4 channels [N, H, W, C]; labels; class names.

    Raises:
        InputError: The arrays do not make a data set, or the training pixels are all equal.
    """
    images = [_channels_first(name, array) for array in (pixels.x_train, pixels.x_test)]
    counts = torch.bincount(images[0].flatten(), minlength=256)
    n, total, squares = (int(counts @ torch.arange(256) ** power) for power in range(3))
    if n * squares == total**2:
        raise InputError("the training images are empty or all of one grey", where=f"data set '{name}'")
    mean, std = total / n, ((n * squares - total**2) / n**2) ** 0.5
    x_train, x_test = (image.float().sub_(mean).div_(std) for image in images)
    y_train, y_test = (torch.tensor(labels.astype(np.int64)) for labels in (pixels.y_train, pixels.y_test))
    return ImageData(name, x_train, y_train, x_test, y_test, pixels.classes)


def _channels_first(name: str, array: np.ndarray) -> Tensor:
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3, 4)):
        got, expected = f"{array.dtype} {list(array.shape)}", "uint8 [N, H, W] or [N, H, W, 1, 3 or 4]"
        raise InputError("wrong images", where=f"data set '{name}'", got=got, expected=expected)
    image = torch.tensor(array)
    return image[:, None] if image.ndim == 3 else image.permute(0, 3, 1, 2).contiguous()


def names() -> list[str]:
    """Returns the names of all data sets that can be loaded now: registered ones and files, sorted."""
    return sorted({*DATASETS.names(), *_files(_folder())})


def load(name: str) -> ImageData:
    """Returns the data set called `name`, standardised; the last few are kept in memory.

    Args:
        name: A registered name, else an image set under `$PEACE_DATA/images`: the file `<name>.npz` or a folder
            `<name>` with the four IDX files of the MNIST family.

    Raises:
        InputError: No such data set is registered or lies there, or its file cannot be read.
    """
    return _load(name, _folder())


def _folder() -> Path | None:
    data = os.environ.get("PEACE_DATA")
    return Path(data) / "images" if data else None


def _files(folder: Path | None) -> dict[str, Path]:
    """Returns the image sets of a folder by name; an archive hides the IDX folder of the same name."""
    if folder is None:
        return {}
    idx = {path.parent.name: path.parent for path in folder.glob(f"*/{TRAIN_IMAGES}*")}
    return idx | {path.stem: path for path in folder.glob("*.npz")}


@lru_cache(maxsize=8)
def _load(name: str, folder: Path | None) -> ImageData:
    if name in DATASETS.names():
        return DATASETS.get(name)()
    path = _files(folder).get(name)
    if path is None:
        raise InputError(
            f"no data set '{name}'", expected=f"the file {_expected(name, folder)}", do=_advice(name, folder)
        )
    return standardised(name, read_npz(path) if path.suffix == ".npz" else read_idx(path))


def _expected(name: str, folder: Path | None) -> str:
    return f"{folder or '$PEACE_DATA/images'}/{name}.npz (or {name}/{TRAIN_IMAGES} and its three companions)"


def _advice(name: str, folder: Path | None) -> str:
    place = "put it there" if folder else "set PEACE_DATA to the folder that holds images/"
    return f"{place}, or {did_you_mean(name, names())}"
