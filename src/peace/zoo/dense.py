"""Training of many small networks of linear layers by Adam, as one compiled loop over models and steps.

A step of such a network takes less time than the calls for it, batched over a thousand models or not. Compiled, a block
of models stays in the processor's cache from one step to the next, side by side, so that each vector instruction does
the same for several of them; and other threads run meanwhile, so that shards train side by side too.
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

_LANES = 64
"""Most networks of a block, one a lane. With 16 or 32 TETRIS-SEED takes half as long again, with 128 as long."""

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
        """Returns the weights after some steps of an epoch; the optimiser's moments and steps change in place.

        The time that a block takes is that of its network with the most images.

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
        moments = (state[name].numpy() for name in ("first", "second"))
        taken = state["steps"] + torch.arange(1, len(steps) + 1)
        corrected = (value.mT.contiguous().numpy() for value in optimizer.corrections(taken, weights.dtype))
        decay = optimizer.weight_decay[:, 0]
        given = (value.contiguous().numpy() for value in (decay, pixels, images, targets, counts))
        # Of the type of the weights, so that the loop computes in it.
        constants = torch.tensor([0, 1, 2, 0.1, 0.999, 0.001, 1e-8], dtype=weights.dtype).numpy()
        ends = (-(-counts // self.batch)).clamp(max=steps.stop)
        at = (steps.start, ends.numpy(), self.batch)
        _train(weights.numpy(), *moments, *corrected, *given, constants, *at, self.shape)
        state["steps"] += (ends - steps.start).clamp(min=0)[:, None]
        return weights


class _Shape(NamedTuple):
    """Sizes of the layers, the images' first; whether there are biases; the activation's number."""

    sizes: np.ndarray
    bias: bool
    activation: int


# A product and the sum that it goes into may be one operation; sums keep their order; a division by zero is infinite,
# as in torch. Compiled anew by each process, in some seconds: files of compiled code would want a folder to write to.
_compiled = numba.njit(nogil=True, error_model="numpy", inline="always", fastmath={"contract"})


@_compiled
def _train(
    weights: np.ndarray, first: np.ndarray, second: np.ndarray, rates: np.ndarray, roots: np.ndarray,
    decays: np.ndarray, pixels: np.ndarray, images: np.ndarray, targets: np.ndarray, counts: np.ndarray,
    constants: np.ndarray, begin: int, ends: np.ndarray, batch: int, shape: _Shape,
) -> None:  # fmt: skip
    lanes = min(_LANES, len(weights))
    kind, size, widest = weights.dtype, weights.shape[1], shape.sizes.max()
    own, gradient = np.zeros((size, lanes), kind), np.zeros((size, lanes), kind)
    mean, square = np.zeros((size, lanes), kind), np.zeros((size, lanes), kind)
    state, sums = np.zeros((len(shape.sizes), widest, lanes), kind), np.zeros((widest, lanes), kind)
    slope, below = np.zeros((widest, lanes), kind), np.zeros((widest, lanes), kind)
    rate, root = np.zeros(lanes, kind), np.zeros(lanes, kind)
    decay, share = np.zeros(lanes, kind), np.zeros(lanes, kind)
    models, last = np.zeros(lanes, np.int64), np.zeros(lanes, np.int64)
    image, target = np.zeros(lanes, np.int64), np.zeros(lanes, np.int64)
    for head in range(0, len(weights), lanes):
        for lane in range(lanes):
            # Lanes beyond the last model repeat it, to the same bits.
            model = models[lane] = min(head + lane, len(weights) - 1)
            last[lane], decay[lane] = ends[model], decays[model]
            for at in range(size):
                own[at, lane], mean[at, lane] = weights[model, at], first[model, at]
                square[at, lane] = second[model, at]
        for step in range(begin, last.max()):
            gradient[:] = 0
            for place in range(step * batch, (step + 1) * batch):
                for lane in range(lanes):
                    model = models[lane]
                    there = min(place, counts[model] - 1)
                    image[lane], target[lane] = images[model, there], targets[model, there]
                    share[lane] = min(batch, counts[model] - step * batch) if place < counts[model] else 0
                _propagate(own, pixels, image, shape, constants, state, sums)
                _softmax_less_one_hot(state, shape, target, share, constants, slope, sums)
                _propagate_back(own, shape, constants, state, slope, below, gradient)
            for lane in range(lanes):
                rate[lane], root[lane] = rates[step - begin, models[lane]], roots[step - begin, models[lane]]
            _adam(own, mean, square, gradient, rate, root, decay, constants)
            for lane in range(lanes):
                # A model whose images are used up rests: what its lane makes from here on is not kept.
                if step + 1 == last[lane]:
                    model = models[lane]
                    for at in range(size):
                        weights[model, at], first[model, at] = own[at, lane], mean[at, lane]
                        second[model, at] = square[at, lane]


@_compiled
def _propagate(
    own: np.ndarray, pixels: np.ndarray, image: np.ndarray, shape: _Shape, constants: np.ndarray, state: np.ndarray,
    sums: np.ndarray,
) -> None:  # fmt: skip
    """Fills `state` with what comes out of each layer, the images first."""
    lanes = own.shape[1]
    at, depth = 0, len(shape.sizes) - 1
    for column in range(shape.sizes[0]):
        for lane in range(lanes):
            state[0, column, lane] = pixels[image[lane], column]
    for layer in range(depth):
        n_in, n_out = shape.sizes[layer], shape.sizes[layer + 1]
        halved = _power_of_two(n_in)
        for row in range(n_out):
            for column in range(halved):
                for lane in range(lanes):
                    sums[column, lane] = own[at + row * n_in + column, lane] * state[layer, column, lane]
            _add_up(sums, halved)
            for column in range(halved, n_in):
                for lane in range(lanes):
                    sums[0, lane] += own[at + row * n_in + column, lane] * state[layer, column, lane]
            for lane in range(lanes):
                total = sums[0, lane] + own[at + n_in * n_out + row, lane] if shape.bias else sums[0, lane]
                state[layer + 1, row, lane] = total if layer == depth - 1 else _activated(total, shape, constants)
        at += n_in * n_out + (n_out if shape.bias else 0)


@_compiled
def _activated(total: float, shape: _Shape, constants: np.ndarray) -> float:
    zero, one, two = constants[0], constants[1], constants[2]
    if shape.activation == 0:
        # A tenth of the time of the library's, and wrong by no more than the rounding of 1.
        return one - two / (math.exp(two * total) + one)
    return one / (one + math.exp(-total)) if shape.activation == 1 else max(total, zero)


@_compiled
def _power_of_two(count: int) -> int:
    """The largest that is not above a count."""
    power = 1
    while 2 * power <= count:
        power *= 2
    return power


@_compiled
def _add_up(parts: np.ndarray, count: int) -> None:
    """Adds rows, as many as a power of two, into the first: one half to the other, and so on."""
    lanes = parts.shape[1]
    half = count // 2
    while half:
        for row in range(half):
            for lane in range(lanes):
                parts[row, lane] += parts[row + half, lane]
        half //= 2


@_compiled
def _softmax_less_one_hot(
    state: np.ndarray, shape: _Shape, target: np.ndarray, share: np.ndarray, constants: np.ndarray, slope: np.ndarray,
    sums: np.ndarray,
) -> None:  # fmt: skip
    """Fills `slope` with that of the mean cross-entropy of `share` images by the outputs, with 0 where that is none."""
    lanes = slope.shape[1]
    zero, depth, classes = constants[0], len(shape.sizes) - 1, shape.sizes[-1]
    halved = _power_of_two(classes)
    for lane in range(lanes):
        largest = state[depth, 0, lane]
        for row in range(classes):
            largest = max(largest, state[depth, row, lane])
        for row in range(classes):
            sums[row, lane] = slope[row, lane] = math.exp(state[depth, row, lane] - largest)
    _add_up(sums, halved)
    for row in range(halved, classes):
        for lane in range(lanes):
            sums[0, lane] += sums[row, lane]
    for row in range(classes):
        for lane in range(lanes):
            value = slope[row, lane] / sums[0, lane] - constants[1 if row == target[lane] else 0]
            slope[row, lane] = value / share[lane] if share[lane] > 0 else zero


@_compiled
def _propagate_back(
    own: np.ndarray, shape: _Shape, constants: np.ndarray, state: np.ndarray, slope: np.ndarray, below: np.ndarray,
    gradient: np.ndarray,
) -> None:  # fmt: skip
    """Adds to the gradient what the slope by the outputs makes of it."""
    lanes = own.shape[1]
    zero, one, at = constants[0], constants[1], len(own)
    for layer in range(len(shape.sizes) - 2, -1, -1):
        n_in, n_out = shape.sizes[layer], shape.sizes[layer + 1]
        at -= n_in * n_out + (n_out if shape.bias else 0)
        below[:] = 0
        for row in range(n_out):
            for column in range(n_in):
                for lane in range(lanes):
                    gradient[at + row * n_in + column, lane] += slope[row, lane] * state[layer, column, lane]
            for column in range(n_in if layer else 0):
                for lane in range(lanes):
                    below[column, lane] += slope[row, lane] * own[at + row * n_in + column, lane]
            for lane in range(lanes if shape.bias else 0):
                gradient[at + n_in * n_out + row, lane] += slope[row, lane]
        for column in range(n_in if layer else 0):
            for lane in range(lanes):
                value = state[layer, column, lane]
                if shape.activation == 0:
                    slope[column, lane] = below[column, lane] * (one - value * value)
                elif shape.activation == 1:
                    slope[column, lane] = below[column, lane] * value * (one - value)
                else:
                    slope[column, lane] = below[column, lane] if value > zero else zero


@_compiled
def _adam(
    own: np.ndarray, first: np.ndarray, second: np.ndarray, gradient: np.ndarray, rate: np.ndarray, root: np.ndarray,
    decay: np.ndarray, constants: np.ndarray,
) -> None:  # fmt: skip
    """One step of Adam; `rate` and `root` are without the moments' bias, see `Optimizer.corrections`."""
    lanes = own.shape[1]
    lerp, keep, add, tiny = constants[3], constants[4], constants[5], constants[6]
    for at in range(len(own)):
        for lane in range(lanes):
            along = gradient[at, lane] + decay[lane] * own[at, lane]
            first[at, lane] += lerp * (along - first[at, lane])
            second[at, lane] = keep * second[at, lane] + add * (along * along)
            own[at, lane] -= rate[lane] * first[at, lane] / (math.sqrt(second[at, lane]) * root[lane] + tiny)
