"""Whether two rankings of the same queries differ by more than the choice of the queries explains."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from peace import seeding
from peace.errors import InputError

RESAMPLES = 10_000
_BLOCK = 2**22
_ROUNDING = 1e-6
"""Share of the largest difference below which a resampled mean is a tie: scores are stored in single precision."""


@dataclass(frozen=True)
class Difference:
    """Mean differences of one or several measures, each of shape [M] float64.

    Attributes:
        mean: Mean over seeds of the mean difference over queries.
        low: Lower end of the percentile interval of that mean.
        high: Upper end of it.
        p: Two-sided p-value of no difference.
    """

    mean: Tensor
    low: Tensor
    high: Tensor
    p: Tensor


def paired_bootstrap(
    differences: Sequence[Tensor],
    keys: Sequence[Sequence[object]],
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Difference:
    """Returns the mean difference of two systems over seeds and queries, with its interval and p-value.

    Each seed's queries are drawn with replacement, apart from those of other seeds, and the mean over seeds of the
    means over queries is taken, θ*. The interval holds the middle `level` of θ*. The p-value inverts it: twice the
    smaller of the shares of θ* ≤ 0 and θ* ≥ 0, of which each counts the data themselves once, so that none is 0.

    Pairing removes what makes a query hard for both systems, and a bootstrap asks for no distribution: measures such as
    precision at 5 are bounded and discrete, so that a t-test's would be wrong. Smucker et al. find bootstrap,
    randomization and t-test to agree on retrieval measures, and rank tests to disagree with all three.

    What it covers is the choice of queries, given the zoo, the gallery and the encoders. It does not cover what another
    zoo or another training would bring; that is in the standard deviation over seeds. Queries of one task share their
    neighbours, so they tell less than as many independent ones would: about other tasks the test is too sure.

    Args:
        differences: For each seed, a query's score in one system less its score in the other. Measures in the columns
            are resampled together.
        keys: For each seed, what its resamples are a function of; equal keys give equal resamples.
        resamples: How many times the queries are drawn.
        level: The share of θ* between the ends of the interval.

    Raises:
        InputError: There is no seed, or a seed has no query.

    Shape:
        One [Q, M] a seed, Q of its own, to four of [M] float64.

    Reference:
        Koehn 2004, *Statistical significance tests for machine translation evaluation*, section 3.3 (one-sided there);
        Smucker, Allan and Carterette 2007, *A comparison of statistical significance tests for information retrieval
        evaluation*; Davison and Hinkley 1997, *Bootstrap Methods and their Application*, (4.11) for the added one.
    """
    if not differences or not all(map(len, differences)):
        raise InputError("no paired bootstrap without queries")
    differences = [each.double() for each in differences]
    mean = torch.stack([each.mean(dim=0) for each in differences]).mean(dim=0)
    drawn = torch.zeros(resamples, len(mean), dtype=torch.float64)
    for each, parts in zip(differences, keys, strict=True):
        drawn += _resampled_means(each, parts, resamples) / len(differences)
    tie = _ROUNDING * torch.cat(differences).abs().amax(dim=0)
    smaller = torch.minimum((drawn <= tie).sum(dim=0), (drawn >= -tie).sum(dim=0))
    p = (2 * (smaller + 1) / (resamples + 1)).double().clamp(max=1)
    tail = (1 - level) / 2
    low, high = drawn.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    return Difference(mean, low, high, p)


def _resampled_means(values: Tensor, parts: Sequence[object], resamples: int) -> Tensor:
    """Means of resamples, each drawn from a stream of its own. Shape: [Q, M] -> [resamples, M]."""
    queries = len(values)
    streams = seeding.keys(list(range(resamples)), "paired bootstrap", *parts)
    means = []
    for block in streams.split(max(1, _BLOCK // queries)):
        drawn = seeding.bits(block, queries).remainder(queries)
        counts = torch.zeros(len(block), queries, dtype=torch.float64)
        means.append(counts.scatter_add_(1, drawn, torch.ones_like(counts)) @ values / queries)
    return torch.cat(means)


def holm(p: Sequence[float]) -> list[float]:
    """Returns the p-values adjusted for being several, in the order given: p̃ = max over smaller ones of (m - rank) p.

    Rejecting where p̃ < α keeps the chance of any false rejection below α, however the tests depend on each other.

    Reference:
        Holm 1979, *A simple sequentially rejective multiple test procedure*.
    """
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = largest
    return adjusted
