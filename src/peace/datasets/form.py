"""The form that a zoo wants its images in: one size for all data sets, and so many images of each class."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from peace import seeding
from peace.datasets.images import ImageData, load
from peace.errors import InputError


@dataclass(frozen=True)
class Form:
    """What is made of a data set before it is learnt; by itself nothing.

    Attributes:
        image_size: Height and width of the images, grey then; None leaves them as they are.
        train_per_class: Training images of each class; None for all.
        test_per_class: Test images of each class; None for all.
    """

    image_size: int | None = None
    train_per_class: int | None = None
    test_per_class: int | None = None


def load_as(name: str, form: Form) -> ImageData:
    """Returns the data set called `name` in a form, standardised again over the training images that are left.

    The images left are the first of each class in an order that depends on the data set's name and the class alone, so
    that fewer images of a class are among more of them. The result shares memory with the data set where it has its
    form already.

    Raises:
        InputError: There is no such data set, or it has too few images of a class.
    """
    data = load(name)
    if form == Form():
        return data
    parts = {}
    for part, count in (("train", form.train_per_class), ("test", form.test_per_class)):
        x, y = getattr(data, f"x_{part}"), getattr(data, f"y_{part}")
        if count is not None:
            kept = _first_of_each(y, len(data.classes), count, name, part)
            x, y = x[kept], y[kept]
        parts |= {f"x_{part}": x if form.image_size is None else resized(x, form.image_size), f"y_{part}": y}
    mean, std = _moments(parts["x_train"])
    if not std:
        raise InputError("the training images are all of one grey", where=f"data set '{name}'")
    for part in ("x_train", "x_test"):
        parts[part] = ((parts[part].double() - mean) / std).float()
    return replace(data, **parts)


def resized(images: Tensor, size: int) -> Tensor:
    """Returns the images as grey squares, each pixel the mean of what it covers of the image.

    Colours are averaged, an alpha channel is left out. Where sizes do not divide, a pixel that is covered in part
    counts in part, so that the mean grey is kept.

    Shape:
        [N, C, H, W] float32 -> [N, 1, size, size] float32.
    """
    channels = images.shape[1]
    grey = images[:, : 3 if channels > 3 else channels].double().mean(1, keepdim=True)
    return (_cover(size, images.shape[2]) @ grey @ _cover(size, images.shape[3]).mT).float()


def _cover(size: int, source: int) -> Tensor:
    """Which share of each new pixel lies in each old one. Shape: [size, source] float64."""
    new, old = torch.arange(size + 1.0).double() * (source / size), torch.arange(source + 1.0).double()
    overlap = torch.minimum(new[1:, None], old[1:]) - torch.maximum(new[:-1, None], old[:-1])
    return overlap.clamp_(min=0) * (size / source)


def _moments(images: Tensor) -> tuple[float, float]:
    wide = images.double()
    return float(wide.mean()), float(wide.std(correction=0))


def _first_of_each(labels: Tensor, n_labels: int, count: int, name: str, part: str) -> Tensor:
    """The places of `count` images of each label that has any, in ascending order."""
    kept = []
    for label in range(n_labels):
        own = (labels == label).nonzero().flatten()
        if 0 < len(own) < count:
            raise InputError("too few images of a class", where=f"data set '{name}', {part} part, label {label}",
                             got=len(own), expected=f"at least {count}")  # fmt: skip
        order = seeding.permutations(seeding.keys([label], name, part), len(own))[0]
        kept.append(own[order[:count]])
    return torch.cat(kept).sort().values
