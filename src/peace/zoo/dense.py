"""Training of many small networks of linear layers by Adam, as one compiled loop over models and steps.

A step of such a network takes less time than the calls for it, batched over a thousand models or not. Compiled, a model
stays in the processor's nearest cache from one step to the next, and other threads run meanwhile, so that shards train
side by side.
"""

import math
from typing import NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor, nn

from peace.zoo.optimizers import Optimizer

_SMALL = 512
"""Multiplications of a layer with a batch up to which this is used."""

_ACTIVATIONS: dict[type[nn.Module], int] = {nn.Tanh: 0, nn.Sigmoid: 1, nn.ReLU: 2}
"""Those whose derivative can be told from what comes out of them, by the numbers that the loop knows them by."""


class Dense:
    """Networks of linear layers with an activation between, all of one shape, with cross-entropy and Adam.

    Args:
        layers: Linear layers, of which only the shapes are used.
        activation: What stands between them, one of `_ACTIVATIONS`.
        batch: Images a step.
    """

    def __init__(self, layers: list[nn.Linear], activation: type[nn.Module], batch: int) -> None:
        sizes = np.array([layers[0].in_features, *(layer.out_features for layer in layers)])
        self.shape = _Shape(sizes, layers[0].bias is not None, _ACTIVATIONS[activation])
        self.batch = batch

    @classmethod
    def of(cls, module: nn.Sequential, optimizer: str, batch: int) -> "Dense | None":
        """Returns what trains a module, or None where it is of another kind or not small.

        Args:
            module: An architecture.
            optimizer: A name in `Optimizer.NAMES`.
            batch: Images a step.
        """
        first, *rest = module
        linear, between = rest[::2], rest[1::2]
        kinds = {type(layer) for layer in between}
        if optimizer != "adam" or not isinstance(first, nn.Flatten) or len(linear) != len(between) + 1:
            return None
        if len(kinds) != 1 or not kinds <= _ACTIVATIONS.keys() or not all(type(x) is nn.Linear for x in linear):
            return None
        small = max(layer.weight.numel() for layer in linear) * batch <= _SMALL
        return cls(linear, kinds.pop(), batch) if small else None

    def train(
        self,
        weights: Tensor,
        optimizer: Optimizer,
        pixels: Tensor,
        images: Tensor,
        targets: Tensor,
        counts: Tensor,
        steps: range,
    ) -> Tensor:
        """Returns the weights after some steps of an epoch; the optimiser's moments change in place.

        Args:
            weights: The parameters of each network in a row, in the module's order. Shape: [M, P].
            optimizer: Adam.
            pixels: The data set's images. Shape: [images, features].
            images: Places of each network's images in the order of the epoch, its own first. Shape: [M, N] int64.
            targets: Their classes. Shape: [M, N] int64.
            counts: How many are its own; a network whose images are used up rests. Shape: [M] int64.
            steps: Which steps.

        Raises:
            ValueError: The images have another size than the networks' input.

        Shape:
            [M, P].
        """
        if pixels.shape[1] != self.shape.sizes[0]:
            raise ValueError(f"images of {pixels.shape[1]} numbers for networks of {self.shape.sizes[0]} inputs")
        state = optimizer.started(weights)
        weights = weights.detach().clone(memory_format=torch.contiguous_format)
        moments = (state[name].numpy() for name in ("first", "second", "steps"))
        rates = (value[:, 0].numpy() for value in (optimizer.learning_rate, optimizer.weight_decay))
        given = (value.contiguous().numpy() for value in (pixels, images, targets, counts))
        # Of the type of the weights, so that the loop computes in it.
        constants = torch.tensor([0, 1, 2, 0.1, 0.999, 0.001, 1e-8], dtype=weights.dtype).numpy()
        at = (steps.start, steps.stop, self.batch)
        _train(weights.numpy(), *moments, *rates, *given, constants, *at, self.shape)
        return weights


class _Shape(NamedTuple):
    """Sizes of the layers, the images' first; whether there are biases; the activation's number."""

    sizes: np.ndarray
    bias: bool
    activation: int


# Sums may be taken in any order, the same at each call; a division by zero is infinite, as in torch.
# Compiled anew by each process, in some seconds: files of compiled code would want a folder that can be written.
_compiled = numba.njit(nogil=True, error_model="numpy", inline="always", fastmath={"reassoc", "contract"})


@_compiled
def _train(
    weights: np.ndarray, first: np.ndarray, second: np.ndarray, taken: np.ndarray, rates: np.ndarray,
    decays: np.ndarray, pixels: np.ndarray, images: np.ndarray, targets: np.ndarray, counts: np.ndarray,
    constants: np.ndarray, begin: int, end: int, batch: int, shape: _Shape,
) -> None:  # fmt: skip
    widest = shape.sizes.max()
    state = np.zeros((len(shape.sizes), widest), weights.dtype)
    slope, below = np.zeros(widest, weights.dtype), np.zeros(widest, weights.dtype)
    gradient, corrections = np.zeros(weights.shape[1], weights.dtype), np.zeros(2, weights.dtype)
    for model in range(len(weights)):
        own, mean, square = weights[model], first[model], second[model]
        for step in range(begin, end):
            start, stop = step * batch, min((step + 1) * batch, counts[model])
            if start >= stop:
                break
            gradient[:] = 0
            for place in range(start, stop):
                _propagate(own, pixels, images[model, place], shape, constants, state)
                _softmax_less_one_hot(state, shape, targets[model, place], stop - start, constants, slope)
                _propagate_back(own, shape, constants, state, slope, below, gradient)
            taken[model, 0] += 1
            # In double precision, as torch has them: 1 - 0.999 in single is wrong by 5e-5 of its value.
            corrections[0] = rates[model] / (1 - math.exp(taken[model, 0] * math.log(0.9)))
            corrections[1] = 1 / math.sqrt(1 - math.exp(taken[model, 0] * math.log(0.999)))
            _adam(own, mean, square, gradient, decays[model], corrections, constants)


@_compiled
def _propagate(
    own: np.ndarray, pixels: np.ndarray, image: int, shape: _Shape, constants: np.ndarray, state: np.ndarray
) -> None:
    """Fills `state` with what comes out of each layer, the image first."""
    zero, one, two, at, depth = constants[0], constants[1], constants[2], 0, len(shape.sizes) - 1
    for column in range(shape.sizes[0]):
        state[0, column] = pixels[image, column]
    for layer in range(depth):
        n_in, n_out = shape.sizes[layer], shape.sizes[layer + 1]
        for row in range(n_out):
            total = own[at + n_in * n_out + row] if shape.bias else zero
            for column in range(n_in):
                total += own[at + row * n_in + column] * state[layer, column]
            if layer == depth - 1:
                state[depth, row] = total
            elif shape.activation == 0:
                # A tenth of the time of the library's, and wrong by no more than the rounding of 1.
                state[layer + 1, row] = one - two / (math.exp(two * total) + one)
            elif shape.activation == 1:
                state[layer + 1, row] = one / (one + math.exp(-total))
            else:
                state[layer + 1, row] = max(total, zero)
        at += n_in * n_out + (n_out if shape.bias else 0)


@_compiled
def _softmax_less_one_hot(
    state: np.ndarray, shape: _Shape, target: int, share: int, constants: np.ndarray, slope: np.ndarray
) -> None:
    """Fills `slope` with that of the mean cross-entropy of `share` images by the outputs."""
    depth, classes = len(shape.sizes) - 1, shape.sizes[-1]
    largest, total = state[depth, 0], constants[0]
    for row in range(classes):
        largest = max(largest, state[depth, row])
    for row in range(classes):
        slope[row] = math.exp(state[depth, row] - largest)
        total += slope[row]
    for row in range(classes):
        slope[row] = (slope[row] / total - constants[1 if row == target else 0]) / share


@_compiled
def _propagate_back(
    own: np.ndarray, shape: _Shape, constants: np.ndarray, state: np.ndarray, slope: np.ndarray, below: np.ndarray,
    gradient: np.ndarray,
) -> None:  # fmt: skip
    """Adds to the gradient what the slope by the outputs makes of it."""
    zero, one, at = constants[0], constants[1], len(own)
    for layer in range(len(shape.sizes) - 2, -1, -1):
        n_in, n_out = shape.sizes[layer], shape.sizes[layer + 1]
        at -= n_in * n_out + (n_out if shape.bias else 0)
        for column in range(n_in):
            below[column] = zero
        for row in range(n_out):
            for column in range(n_in):
                gradient[at + row * n_in + column] += slope[row] * state[layer, column]
            for column in range(n_in if layer else 0):
                below[column] += slope[row] * own[at + row * n_in + column]
            if shape.bias:
                gradient[at + n_in * n_out + row] += slope[row]
        for column in range(n_in if layer else 0):
            value = state[layer, column]
            if shape.activation == 0:
                slope[column] = below[column] * (one - value * value)
            elif shape.activation == 1:
                slope[column] = below[column] * value * (one - value)
            else:
                slope[column] = below[column] if value > zero else zero


@_compiled
def _adam(
    own: np.ndarray, first: np.ndarray, second: np.ndarray, gradient: np.ndarray, decay: float,
    corrections: np.ndarray, constants: np.ndarray,
) -> None:  # fmt: skip
    """One step of Adam; `corrections` are the learning rate and the root's factor, both without the moments' bias."""
    lerp, keep, add, tiny = constants[3], constants[4], constants[5], constants[6]
    for at in range(len(own)):
        along = gradient[at] + decay * own[at]
        first[at] += lerp * (along - first[at])
        second[at] = keep * second[at] + add * along * along
        own[at] -= corrections[0] * first[at] / (math.sqrt(second[at]) * corrections[1] + tiny)
