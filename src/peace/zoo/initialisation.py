"""Initial weights of many models at once, each a pure function of its model's seed."""

import math
from collections.abc import Callable, Sequence

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


def _truncated(keys: Tensor, shape: tuple[int, ...], fan_in: int, fan_out: int) -> Tensor:
    low, high = torch.special.ndtr(torch.tensor([-2.0, 2.0], dtype=torch.float64))
    unit = torch.special.ndtri(low + (high - low) * seeding.uniform(keys, *shape, dtype=torch.float64))
    return unit / math.sqrt(fan_in)


def _orthogonal(keys: Tensor, shape: tuple[int, ...], fan_in: int, fan_out: int) -> Tensor:
    matrix = seeding.normal(keys, *shape, dtype=torch.float64).flatten(2)
    wide = matrix.shape[1] < matrix.shape[2]
    q, r = torch.linalg.qr(matrix.mT if wide else matrix)
    # Without the signs of the diagonal the result would not be uniform over orthogonal matrices.
    q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None]
    return (q.mT if wide else q).reshape(len(keys), *shape)


INITIALISATIONS: dict[str, Draw] = {
    "uniform": _uniform(lambda fan_in, _: 1 / math.sqrt(fan_in)),
    "normal": _normal(lambda fan_in, _: 1 / math.sqrt(fan_in)),
    "kaiming_uniform": _uniform(lambda fan_in, _: math.sqrt(6 / fan_in)),
    "kaiming_normal": _normal(lambda fan_in, _: math.sqrt(2 / fan_in)),
    "xavier_uniform": _uniform(lambda fan_in, fan_out: math.sqrt(6 / (fan_in + fan_out))),
    "xavier_normal": _normal(lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out))),
    "truncated_normal": _truncated,
    "orthogonal": _orthogonal,
    "unit_uniform": lambda keys, shape, fan_in, fan_out: seeding.uniform(keys, *shape, dtype=torch.float64),
    "unit_normal": _normal(lambda fan_in, fan_out: 1.0),
}
"""Weight distributions by name (Glorot and Bengio 2010; He et al. 2015, arXiv:1502.01852; Saxe et al. 2014,
arXiv:1312.6120). `uniform` is torch's own default of a layer, U(±1/√fan_in); `normal` has the standard deviation
1/√fan_in, and `truncated_normal` is the same without what lies beyond two of them. `unit_uniform` is U(0, 1) and
`unit_normal` N(0, 1), whatever the layer: what `torch.nn.init.uniform_` and `normal_` do when told nothing, and what
the authors' code of Schürholt et al. 2021 (arXiv:2110.15288, table 9) means by uniform and normal. Biases start at
zero."""

WITH_STD = ("normal", "truncated_normal")
"""Those whose standard deviation (of the normal distribution, before any truncation) may be given instead."""


def initialise(
    module: nn.Module,
    method: str,
    seeds: Tensor,
    dtype: torch.dtype = torch.float32,
    stds: Sequence[float | None] | None = None,
) -> dict[str, Tensor]:
    """Returns initial parameters of one model per seed.

    Args:
        module: The architecture; only its parameters' names and shapes are used.
        method: A name in `INITIALISATIONS`.
        seeds: One seed per model. Shape: [M] int64.
        dtype: Type of the result; the draw itself is in float64, so that types differ by rounding only.
        stds: Each model's standard deviation, None for the method's own; for methods in `WITH_STD`.

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
        drawn = INITIALISATIONS[method](keys, shape, fan_in, fan_out)
        if any(std is not None for std in stds or ()):
            scale = [1.0 if std is None else std * math.sqrt(fan_in) for std in stds or ()]
            drawn *= torch.tensor(scale, dtype=torch.float64).view(-1, *[1] * len(shape))
        stacked[name] = drawn.to(dtype)
    return stacked
