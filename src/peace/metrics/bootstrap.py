"""Bootstrap intervals of a mean over queries."""

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
    tail = (1 - level) / 2
    low, high = torch.cat(means).quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    return low, high
