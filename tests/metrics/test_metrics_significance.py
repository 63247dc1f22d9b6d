"""The paired bootstrap against enumeration, scipy and its own promises; Holm's correction by hand."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap, permutation_test

from peace.errors import InputError
from peace.metrics import significance
from peace.metrics.significance import Difference, holm, paired_bootstrap


def normal(queries: int, shift: float, seed: int = 0) -> torch.Tensor:
    return torch.randn(queries, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def single(found: Difference) -> list[float]:
    return [value.item() for value in (found.mean, found.low, found.high, found.p)]


def test_three_queries_by_enumeration() -> None:
    values = [-1.0, 0.5, 2.0]
    means = np.array([np.mean(drawn) for drawn in itertools.product(values, repeat=3)])
    # Of 27 resamples, 4 are below 0: -1 three times (1), -1 twice and 0.5 (3). Exactly 0 are 6: -1 and 0.5 twice (3),
    # -1 twice and 2 (3).
    assert (means <= 0).sum() == 10 and (means >= 0).sum() == 23
    found = paired_bootstrap([torch.tensor(values)[:, None]], [("a",)], resamples=100_000)
    mean, low, high, p = single(found)
    assert mean == pytest.approx(0.5)
    assert p == pytest.approx(20 / 27, abs=0.01)
    # The smallest and the largest mean have a share of 1 in 27 each, more than the 2.5 % beyond an end.
    assert (low, high) == (-1.0, 2.0)


def test_the_interval_is_scipy_s_and_the_p_value_near_that_of_sign_flips() -> None:
    values = normal(160, 0.25)
    mean, low, high, p = single(paired_bootstrap([values], [(0,)]))
    sample = (values[:, 0].numpy(),)
    expected = bootstrap(sample, np.mean, method="percentile", n_resamples=10_000, rng=0).confidence_interval
    assert (low, high) == pytest.approx(tuple(expected), abs=0.01)
    flips = permutation_test(sample, np.mean, permutation_type="samples", n_resamples=10_000, rng=0)
    assert mean == pytest.approx(sample[0].mean())
    assert 0.001 < flips.pvalue < 0.05 and p == pytest.approx(flips.pvalue, abs=0.005)


def test_the_interval_excludes_zero_where_p_is_below_its_level() -> None:
    for seed in range(40):
        _, low, high, p = single(paired_bootstrap([normal(30, 0.35, seed)], [(seed,)], resamples=2_000))
        # The one that p adds to its count moves the boundary by 2 in 2,001.
        assert low > 0 or high < 0 or p > 0.049, seed
        assert (low < 0 < high) or p < 0.052, seed


def test_p_values_of_no_difference_are_small_as_often_as_they_say() -> None:
    # 600 trials of 100 queries; 30 expected below 0.05, with a standard deviation of 5.3.
    found = paired_bootstrap([torch.cat([normal(100, 0, seed) for seed in range(600)], dim=1)], [(0,)], resamples=1_000)
    assert 15 <= (found.p < 0.05).sum() <= 46


def test_seeds_are_drawn_apart_and_weigh_the_same() -> None:
    parts = [normal(50, 1.0, 1), normal(200, 3.0, 2)]
    mean, low, high, p = single(paired_bootstrap(parts, [(1,), (2,)]))
    error = sum(part.var().item() / len(part) / 4 for part in parts) ** 0.5
    assert mean == pytest.approx(sum(part.mean().item() for part in parts) / 2)
    assert (low, high) == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=0.02)
    assert p == pytest.approx(2 / 10_001)


def test_equal_systems_and_sure_differences() -> None:
    found = paired_bootstrap([torch.tensor([[0.0, 0.2, -0.2]]).expand(20, 3)], [("x",)], resamples=999)
    assert found.p.tolist() == pytest.approx([1.0, 0.002, 0.002])
    assert found.low.tolist() == pytest.approx([0.0, 0.2, -0.2]) and torch.allclose(found.low, found.high)


def test_rounding_in_single_precision_breaks_no_tie() -> None:
    # Half of the queries gain what the other half loses: resamples often tie at 0, which counts for both sides.
    exact = torch.tensor([0.2, -0.2], dtype=torch.float64).repeat(4)[:, None]
    stored = (torch.tensor([0.6, 0.4]).double() - torch.tensor([0.4, 0.6]).double() + 1e-8).repeat(4)[:, None]
    assert stored.mean() != 0
    assert single(paired_bootstrap([stored], [(0,)]))[3] == single(paired_bootstrap([exact], [(0,)]))[3] == 1


def test_a_function_of_its_keys_in_whatever_company_and_block(monkeypatch: pytest.MonkeyPatch) -> None:
    values, other = normal(40, 0.2), normal(40, 0.5, 1)
    alone = single(paired_bootstrap([values], [("a", 1)]))
    together = paired_bootstrap([torch.cat([other, values], dim=1)], [("a", 1)])
    assert [getattr(together, name)[1].item() for name in ("mean", "low", "high", "p")] == pytest.approx(alone)
    monkeypatch.setattr(significance, "_BLOCK", 1000)
    assert single(paired_bootstrap([values], [("a", 1)])) == pytest.approx(alone)
    assert single(paired_bootstrap([values], [("a", 2)]))[1:3] != alone[1:3]


@pytest.mark.parametrize("differences", [[], [torch.zeros(0, 1)], [torch.ones(3, 1), torch.zeros(0, 1)]])
def test_no_query_is_refused(differences: list[torch.Tensor]) -> None:
    with pytest.raises(InputError, match="without queries"):
        paired_bootstrap(differences, [(0,)] * len(differences))


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04, of which none may fall below the last.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2] and holm([]) == []
