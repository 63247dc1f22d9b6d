"""Tetris: generated images of four shapes for networks of a hundred weights."""

import math

import numpy as np
import torch
from torch import Tensor

from peace import seeding
from peace.datasets import DATASETS
from peace.datasets.images import ImageData, standardised
from peace.datasets.readers import Pixels
from peace.errors import InputError

# Each shape where it lies first, and the axis (0 down, 1 right) along which it may lie one cell further.
_SHAPES = {
    "I": (("....", "####", "....", "...."), 0),
    "O": (("....", "##..", "##..", "...."), 1),
    "T": (("....", "###.", ".#..", "...."), 1),
    "L": (("....", "#...", "#...", "##.."), 1),
}


@DATASETS.register("tetris")
def tetris(train_images: int = 1024, test_images: int = 1024, noise: float = 0.2, seed: int = 0) -> ImageData:
    """Returns noisy 4 × 4 grey images of four tetris shapes, generated anew from the seed.

    The paper says only that the images are 4 × 4, grey-scaled and show four tetris shapes (its figure 6). Chosen here:

    - shapes: I, O, T and L, never rotated or mirrored; image i shows shape i mod 4, so the classes are balanced;
    - position: one of two, equally likely, one cell apart (I moves down, the others right), so that no class is a
      single pattern and the hidden layer is needed;
    - grey: the shape's four cells have one level, uniform in [0.5, 1]; the background is 0;
    - noise: Gaussian of standard deviation `noise` on every pixel, then clipped to [0, 1] and rounded to 256 levels;
    - split: training and test images come from the same distribution by separate streams; each image is a
      function of (seed, part, i) alone, so a larger set begins with the smaller one's images;
    - standardised by the training set's scalar mean and standard deviation.

    A 16-5-4 tanh network without biases, uniform in ±1/sqrt(fan_in), starts at chance (25 %). Mean test accuracy and
    generalisation gap of 50 such networks after 75 epochs of Adam: learning rate 3e-3, batch 16: 95.0 % and 3.3
    points; learning rate 3e-5, as in the paper: 73.4 % and 1.3 (batch 4), 59.7 % and 0.5 (batch 16).

    Args:
        train_images: Number of training images.
        test_images: Number of test images.
        noise: Standard deviation of the noise, where white is 1.
        seed: Selects the images; zoos to be compared share it.

    Raises:
        InputError: A number is out of range.

    Reference:
        K. Schürholt, D. Kostadinov, D. Borth 2021, *Self-supervised representation learning on neural network weights
        for model characteristic prediction*, arXiv:2110.15288, section 4.1 and appendix C.1.
    """
    if min(train_images, test_images) < 1 or not 0 <= noise < math.inf:
        got = f"train_images={train_images}, test_images={test_images}, noise={noise}"
        raise InputError(
            "cannot generate the data set 'tetris'", got=got, expected="positive numbers of images, noise >= 0"
        )
    parts = (_images(count, noise, seed, part) for part, count in (("train", train_images), ("test", test_images)))
    (x_train, y_train), (x_test, y_test) = parts
    return standardised("tetris", Pixels(x_train, y_train, x_test, y_test, tuple(_SHAPES)))


def _images(count: int, noise: float, seed: int, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns pixels [count, 4, 4] uint8 and labels [count]."""

    def stream(what: str) -> Tensor:
        return seeding.keys(list(range(count)), "tetris", seed, part, what)

    labels = torch.arange(count) % len(_SHAPES)
    place = (seeding.uniform(stream("place"), 1)[:, 0] < 0.5).long()
    grey = 0.5 + 0.5 * seeding.uniform(stream("grey"), 1, 1)
    image = _masks()[labels, place] * grey + noise * seeding.normal(stream("noise"), 4, 4)
    return (255 * image.clamp(0, 1)).round().byte().numpy(), labels.numpy()


def _masks() -> Tensor:
    """Returns every shape in its two places. Shape: [4, 2, 4, 4], 1 where the shape is."""
    shapes = ((torch.tensor([cell == "#" for cell in "".join(rows)]), axis) for rows, axis in _SHAPES.values())
    masks = ((flat.view(4, 4).float(), axis) for flat, axis in shapes)
    return torch.stack([torch.stack([mask, mask.roll(1, axis)]) for mask, axis in masks])
