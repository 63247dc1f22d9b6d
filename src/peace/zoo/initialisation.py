"""Initial weights of many models at once, each a pure function of its model's seed."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from peace import seeding
from peace.errors import InputError, did_you_mean

Draw = Callable[[Tensor, tuple[int, ...], int, int], Tensor]


def _uniform(bound: Callable[[int, int], float]) -> Draw:
    return lambda keys, shape, fan_in, fan_out: (
        (seeding.uniform(keys, *shape, dtype=torch.float64) * 2 - 1) * bound(fan_in, fan_out)
    )


def _normal(std: Callable[[int, int], float]) -> Draw:
    return lambda keys, shape, fan_in, fan_out: seeding.normal(keys, *shape, dtype=torch.float64) * std(fan_in, fan_out)


INITIALISATIONS: dict[str, Draw] = {
    "uniform": _uniform(lambda fan_in, _: 1 / math.sqrt(fan_in)),
    "normal": _normal(lambda fan_in, _: 1 / math.sqrt(fan_in)),
    "kaiming_uniform": _uniform(lambda fan_in, _: math.sqrt(6 / fan_in)),
    "kaiming_normal": _normal(lambda fan_in, _: math.sqrt(2 / fan_in)),
    "xavier_uniform": _uniform(lambda fan_in, fan_out: math.sqrt(6 / (fan_in + fan_out))),
    "xavier_normal": _normal(lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out))),
}
"""Weight distributions by name (Glorot and Bengio 2010; He et al. 2015, arXiv:1502.01852). `uniform` is torch's own
default, U(±1/√fan_in); `normal` has the standard deviation 1/√fan_in. Schürholt et al. 2021 (arXiv:2110.15288,
table 9) name the six without their scales. Biases start at zero."""


def initialise(module: nn.Module, method: str, seeds: Tensor, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Returns initial parameters of one model per seed.

    Args:
        module: The architecture; only its parameters' names and shapes are used.
        method: A name in `INITIALISATIONS`.
        seeds: One seed per model. Shape: [M] int64.
        dtype: Type of the result; the draw itself is in float64, so that types differ by rounding only.

    Returns:
        Parameters by name. Shape of each: [M, *shape].

    Raises:
        InputError: There is no such method.
    """
    if method not in INITIALISATIONS:
        raise InputError(f"unknown initialisation '{method}'", do=did_you_mean(method, INITIALISATIONS))
    stacked = {}
    for name, parameter in module.named_parameters():
        shape = tuple(parameter.shape)
        if parameter.ndim < 2:
            stacked[name] = torch.zeros(len(seeds), *shape, dtype=dtype)
            continue
        fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(torch.empty(shape, device="meta"))
        keys = seeding.keys(seeds, "initialisation", name)
        stacked[name] = INITIALISATIONS[method](keys, shape, fan_in, fan_out).to(dtype)
    return stacked
