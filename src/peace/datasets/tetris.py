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
def tetris(
    train_images: int = 3000, test_images: int = 1000, noise: float = 0.1, shifted: float = 0.1, seed: int = 0
) -> ImageData:
    """Returns noisy 4 × 4 grey images of four tetris shapes, generated anew from the seed.

    The paper says only that the images are 4 × 4, grey-scaled and show four tetris shapes (its figure 6). Chosen here:

    - shapes: I, O, T and L, never rotated or mirrored; image i shows shape i mod 4, so the classes are balanced;
    - position: one of two, one cell apart (I moves down, the others right), so that no class is a single pattern and
      the hidden layer is needed. A test image lies in either equally often, a training image in the second one with
      probability `shifted`: what is rare in training is what a network gets wrong in the test, which makes a
      generalisation gap that differs between networks;
    - grey: the shape's four cells have one level, uniform in [0.5, 1]; the background is 0;
    - noise: Gaussian of standard deviation `noise` on every pixel, then clipped to [0, 1] and rounded to 256 levels;
    - split: training and test images come from separate streams; each image is a function of (seed, part, i), `noise`
      and `shifted` alone, so a larger set begins with the smaller one's images;
    - standardised by the training set's scalar mean and standard deviation.

    A thousand 16-5-4 tanh networks without biases, uniform in [0, 1], with Adam at learning rate 3e-5 and batch 1, as
    in `configs/zoo/tetris_seed.yaml`, have a mean test accuracy of 30.3 % after one epoch and 87.0 % (standard
    deviation 6.8) after 75, with a generalisation gap of 9.9 points.

    Args:
        train_images: Number of training images.
        test_images: Number of test images.
        noise: Standard deviation of the noise, where white is 1.
        shifted: Share of the training images that lie in their second place.
        seed: Selects the images; zoos to be compared share it.

    Raises:
        InputError: A number is out of range.

    Reference:
        K. Schürholt, D. Kostadinov, D. Borth 2021, *Self-supervised representation learning on neural network weights
        for model characteristic prediction*, arXiv:2110.15288, section 4.1 and appendix C.1.
    """
    if min(train_images, test_images) < 1 or not 0 <= noise < math.inf or not 0 <= shifted <= 1:
        got = f"train_images={train_images}, test_images={test_images}, noise={noise}, shifted={shifted}"
        expected = "positive numbers of images, noise >= 0, shifted from 0 to 1"
        raise InputError("cannot generate the data set 'tetris'", got=got, expected=expected)
    parts = (
        _images(count, noise, share, seed, part)
        for part, count, share in (("train", train_images, shifted), ("test", test_images, 0.5))
    )
    (x_train, y_train), (x_test, y_test) = parts
    return standardised("tetris", Pixels(x_train, y_train, x_test, y_test, tuple(_SHAPES)))


def _images(count: int, noise: float, shifted: float, seed: int, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns pixels [count, 4, 4] uint8 and labels [count]."""

    def stream(what: str) -> Tensor:
        return seeding.keys(list(range(count)), "tetris", seed, part, what)

    labels = torch.arange(count) % len(_SHAPES)
    place = (seeding.uniform(stream("place"), 1)[:, 0] < shifted).long()
    grey = 0.5 + 0.5 * seeding.uniform(stream("grey"), 1, 1)
    image = _masks()[labels, place] * grey + noise * seeding.normal(stream("noise"), 4, 4)
    return (255 * image.clamp(0, 1)).round().byte().numpy(), labels.numpy()


def _masks() -> Tensor:
    """Returns every shape in its two places. Shape: [4, 2, 4, 4], 1 where the shape is."""
    shapes = ((torch.tensor([cell == "#" for cell in "".join(rows)]), axis) for rows, axis in _SHAPES.values())
    masks = ((flat.view(4, 4).float(), axis) for flat, axis in shapes)
    return torch.stack([torch.stack([mask, mask.roll(1, axis)]) for mask, axis in masks])
