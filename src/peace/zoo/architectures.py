"""The architectures of zoo models, as plain `nn.Sequential` modules that torch alone can load and run."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import nn

from peace.errors import InputError, did_you_mean
from peace.registry import Registry

ARCHITECTURES: Registry[nn.Sequential] = Registry("architecture", "peace.zoo")

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "identity": nn.Identity,
}


def make_activation(name: str) -> nn.Module:
    """Returns the activation module called `name`."""
    if name not in ACTIVATIONS:
        raise InputError(f"unknown activation '{name}'", do=did_you_mean(name, ACTIVATIONS))
    return ACTIVATIONS[name]()


def _dense(sizes: Sequence[int], outputs: int, act: str, bias: bool, dropout: bool) -> list[nn.Module]:
    """Hidden linear layers of the given sizes (the first is the input), then the output layer."""
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [nn.Linear(n_in, n_out, bias=bias), make_activation(act)]
        layers += [nn.Dropout()] if dropout else []
    return [*layers, nn.Linear(sizes[-1], outputs, bias=bias)]


@ARCHITECTURES.register("mlp")
def mlp(
    input_shape: tuple[int, ...],
    outputs: int,
    activation: str = "relu",
    hidden: tuple[int, ...] = (32,),
    bias: bool = True,
    dropout: bool = False,
) -> nn.Sequential:
    """Returns a multi-layer perceptron over flattened images.

    Args:
        input_shape: Shape [C, H, W] of one image.
        outputs: Number of classes.
        activation: Name of the activation after each hidden layer.
        hidden: Sizes of the hidden layers.
        bias: Whether linear layers have a bias.
        dropout: Whether dropout follows each hidden layer (its rate belongs to the training, not to the shape).
    """
    return nn.Sequential(nn.Flatten(), *_dense((math.prod(input_shape), *hidden), outputs, activation, bias, dropout))


@ARCHITECTURES.register("cnn")
def cnn(
    input_shape: tuple[int, int, int],
    outputs: int,
    activation: str = "relu",
    channels: tuple[int, ...] = (8, 6, 4),
    kernels: tuple[int, ...] = (5, 5, 2),
    pools: tuple[int, ...] = (2, 2, 1),
    hidden: tuple[int, ...] = (20,),
    bias: bool = True,
    dropout: bool = False,
    strides: tuple[int, ...] | None = None,
    pooling: Literal["flatten", "average"] = "flatten",
) -> nn.Sequential:
    """Returns a plain convolutional network: convolution, max-pooling and activation, repeated, then linear layers.

    The defaults on 28x28 grey images are the 2,464-parameter network of Schürholt et al. 2021 (arXiv:2110.15288,
    table 11), whose 36 features come out without the third pooling that the table lists. Three convolutions of 16
    channels, kernel 3 and stride 2, averaged, are the 4,970-parameter network of Unterthiner et al. 2020
    (arXiv:2002.11448). Arguments as in `mlp`; `kernels`, `pools` and `strides` are square sizes, one per convolution; a
    pool of 1 is none, and without strides all are 1. `pooling` is what the linear layers see of each channel of the
    last convolution, all its pixels or their average; where it is the average, dropout follows each convolution's
    activation too, as in the latter network.

    Raises:
        InputError: The lists differ in length, or nothing is left of the image.
    """
    steps = (1,) * len(channels) if strides is None else strides
    if not len(channels) == len(kernels) == len(pools) == len(steps) or min((1, *kernels, *pools, *steps)) < 1:
        raise InputError("cnn needs one kernel, one pool and one stride, of at least 1, per convolution",
                         got=(channels, kernels, pools, steps))  # fmt: skip
    layers: list[nn.Module] = []
    n_in, height, width = input_shape
    for n_out, kernel, pool, step in zip(channels, kernels, pools, steps, strict=True):
        layers.append(nn.Conv2d(n_in, n_out, kernel, step, bias=bias))
        layers += [nn.MaxPool2d(pool)] if pool > 1 else []
        layers.append(make_activation(activation))
        layers += [nn.Dropout()] if dropout and pooling == "average" else []
        n_in, height, width = n_out, ((height - kernel) // step + 1) // pool, ((width - kernel) // step + 1) // pool
        if min(height, width) < 1:
            raise InputError("cnn leaves nothing of the image", got=f"input {input_shape}", do="use smaller kernels")
    if pooling == "average":
        layers.append(nn.AvgPool2d((height, width)))
        height = width = 1
    dense = _dense((n_in * height * width, *hidden), outputs, activation, bias, dropout)
    return nn.Sequential(*layers, nn.Flatten(), *dense)


def build(config: str | Mapping[str, Any]) -> nn.Sequential:
    """Returns the module that a manifest's `architecture_config` (JSON text or mapping) describes."""
    return ARCHITECTURES.build(json.loads(config) if isinstance(config, str) else config)


def short_name(config: Mapping[str, Any]) -> str:
    """Returns a readable name such as `cnn-8-16-5-relu`: family, hidden sizes, outputs, activation."""
    sizes = [*config.get("channels", ()), *config.get("hidden", ()), config["outputs"]]
    name = "-".join(map(str, [config["name"], *sizes, config["activation"]]))
    return name + ("" if config.get("bias", True) else "-nobias")
