"""Measures of predictions on models that come in training runs, with intervals over the runs.

Checkpoints of one run are nearly one model, so that an interval over models would be far too narrow: whole runs are
resampled instead.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.stats import kendalltau, t
from torch import Tensor

from peace import seeding
from peace.metrics.bootstrap import percentiles, resampled_sums

_GROUPS = 100
_CONSTANT = 1e-9
"""Share of the variance of all models below which that of a resample is rounding."""


class Estimate(NamedTuple):
    """A measure with its 95 % interval, which is not there where the models come from one run."""

    value: float
    low: float | None = None
    high: float | None = None


def r2(target: Tensor, predicted: Tensor, runs: ArrayLike, *keys: object) -> Estimate:
    """Returns R² = 1 - Σ(t - t̂)² / Σ(t - t̄)² with t̄ the mean of these targets, and its bootstrap interval over runs.

    A resample has the t̄ of its own models. Of resamples in which all targets are equal R² is not defined; they are
    left out.

    Args:
        target: t, not all equal.
        predicted: t̂.
        runs: The run of each model.
        *keys: What the resamples are a function of, such as a seed.

    Shape:
        Three of [G].
    """
    target, predicted = target.double(), predicted.double()
    spread = target.std(correction=0)
    # In units of its own standard deviation the target's variance is 1, and what is left of it by rounding is told.
    scaled = (target - target.mean()) / spread
    columns = torch.stack([torch.ones_like(scaled), scaled, scaled**2, ((target - predicted) / spread) ** 2], dim=1)
    return _of_sums(columns, _r2, runs, *keys)


def accuracy(correct: Tensor, runs: ArrayLike, *keys: object) -> Estimate:
    """Returns the share of correct predictions and its bootstrap interval over runs. Shape: [G] bool and [G]."""
    columns = torch.stack([correct.double(), torch.ones(len(correct), dtype=torch.float64)], dim=1)
    return _of_sums(columns, lambda sums: sums[..., 0] / sums[..., 1], runs, *keys)


def explained(error: Tensor, deviation: Tensor, runs: ArrayLike, *keys: object) -> Estimate:
    """Returns 1 - Σ error / Σ deviation and its bootstrap interval over runs.

    Args:
        error: The squared error of each model.
        deviation: Its squared distance from the mean, not zero for all.
        runs: The run of each model.
        *keys: What the resamples are a function of, such as a seed.

    Shape:
        Three of [G].
    """
    columns = torch.stack([error.double(), deviation.double()], dim=1)
    return _of_sums(columns, lambda sums: 1 - sums[..., 0] / sums[..., 1], runs, *keys)


def kendall_tau(target: Tensor, predicted: Tensor, runs: ArrayLike, *keys: object) -> Estimate:
    """Returns Kendall's τ_b of targets and predictions, and its jackknife interval over runs.

    Where one of the two is constant, nothing is ordered and τ is 0. A bootstrap would draw models twice, and each pair
    of copies is a tie that the data do not have. So the runs are put into at most 100 groups at random, and τ₋ₖ is τ
    without group k: the variance is (K - 1)/K Σ(τ₋ₖ - mean)², the interval Student's with K - 1 degrees of freedom, cut
    at -1 and 1.

    Args:
        target: What is predicted.
        predicted: The predictions.
        runs: The run of each model.
        *keys: What the groups are a function of, such as a seed.

    Shape:
        Three of [G].

    Reference:
        Kendall 1945, *The treatment of ties in ranking problems*; Shao and Tu 1995, *The Jackknife and Bootstrap*,
        section 5.1.2 (the delete-a-group jackknife); Arvesen 1969, *Jackknifing U-statistics*.
    """
    pairs = np.stack([target.double().numpy(), predicted.double().numpy()])
    value = _tau(pairs)
    _, codes = np.unique(np.asarray(runs), return_inverse=True)
    count = codes.max() + 1
    if count < 2:
        return Estimate(value)
    groups = min(_GROUPS, count)
    group = torch.randperm(count, generator=seeding.generator("jackknife", *keys)).numpy()[codes] % groups
    without = np.array([_tau(pairs[:, group != left_out]) for left_out in range(groups)])
    half = float(t.ppf(0.975, groups - 1) * np.sqrt((groups - 1) * without.var()))
    return Estimate(value, max(-1.0, value - half), min(1.0, value + half))


def _tau(pairs: np.ndarray) -> float:
    return float(np.nan_to_num(kendalltau(*pairs).statistic))


def _r2(sums: Tensor) -> Tensor:
    count, total, squares, errors = sums.unbind(-1)
    variance = squares - total**2 / count
    return torch.where(variance > _CONSTANT * count, 1 - errors / variance, torch.nan)


def _of_sums(columns: Tensor, measure: Callable[[Tensor], Tensor], runs: ArrayLike, *keys: object) -> Estimate:
    """A function of the columns' sums, and its percentile bootstrap interval over runs."""
    names, codes = np.unique(np.asarray(runs), return_inverse=True)
    sums = columns.new_zeros(len(names), columns.shape[1]).index_add_(0, torch.from_numpy(codes), columns)
    value = measure(sums.sum(dim=0)).item()
    drawn = measure(resampled_sums(sums, *keys)) if len(names) > 1 else columns.new_empty(0)
    drawn = drawn[drawn.isfinite()]
    return Estimate(value, *(end.item() for end in percentiles(drawn))) if len(drawn) else Estimate(value)
