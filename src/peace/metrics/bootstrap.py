"""Bootstrap intervals: of a mean over queries, and of any function of sums over groups."""

import torch
from torch import Tensor

from peace import seeding
from peace.errors import InputError

_BLOCK = 2**22


def bootstrap_interval(
    values: Tensor, *keys: object, resamples: int = 1000, level: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Returns the lower and upper end of the percentile bootstrap interval of the mean over queries.

    Measures in the columns are resampled together.

    Args:
        values: One value per query, of one or several measures.
        *keys: What the resamples are a function of, such as a seed.
        resamples: How many times the queries are drawn with replacement.
        level: The share of the resampled means that lie between the two ends.

    Raises:
        InputError: There is no query.

    Shape:
        [Q] or [Q, M] to two tensors [] or [M] float64.

    Reference:
        Efron and Tibshirani 1993, *An Introduction to the Bootstrap*, section 13.3.
    """
    queries = len(values)
    if not queries:
        raise InputError("no bootstrap interval without queries")
    values = values.double()
    source = seeding.generator("bootstrap", *keys)
    step = max(1, _BLOCK // values.numel())
    means = [
        values[torch.randint(queries, (min(step, resamples - done), queries), generator=source)].mean(dim=1)
        for done in range(0, resamples, step)
    ]
    return percentiles(torch.cat(means), level)


def resampled_sums(sums: Tensor, *keys: object, resamples: int = 1000) -> Tensor:
    """Returns the totals of as many groups as there are, drawn with replacement, once per resample.

    What depends on the data through sums alone is resampled in one matrix product, however many rows a group has.

    Args:
        sums: What each group adds to each sum.
        *keys: What the resamples are a function of, such as a seed.
        resamples: How many times the groups are drawn.

    Shape:
        [R, M] to [resamples, M] float64.
    """
    groups = len(sums)
    source = seeding.generator("bootstrap", *keys)
    step = max(1, _BLOCK // groups)
    totals = []
    for done in range(0, resamples, step):
        drawn = torch.randint(groups, (min(step, resamples - done), groups), generator=source)
        times = torch.zeros(drawn.shape, dtype=torch.float64)
        totals.append(times.scatter_add_(1, drawn, torch.ones_like(times)) @ sums.double())
    return torch.cat(totals)


def percentiles(samples: Tensor, level: float = 0.95) -> tuple[Tensor, Tensor]:
    """Returns the ends of the middle `level` of resampled values. Shape: [resamples, ...] to two of [...]."""
    tail = (1 - level) / 2
    low, high = samples.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    return low, high
