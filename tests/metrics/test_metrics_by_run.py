import numpy as np
import pytest
import torch
from scipy.stats import kendalltau, norm
from sklearn.metrics import r2_score
from torch import Tensor

from peace.metrics.bootstrap import percentiles, resampled_sums
from peace.metrics.by_run import accuracy, explained, kendall_tau, r2


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clustered(runs: int = 200, each: int = 10) -> tuple[Tensor, Tensor, np.ndarray]:
    """Targets and predictions of which the models of one run share most."""
    names = np.repeat([f"r{run}" for run in range(runs)], each)
    target = (normal(runs, 1) + 0.1 * normal(runs, each, seed=1)).flatten()
    predicted = (target.view(runs, each) + normal(runs, 1, seed=2) + 0.1 * normal(runs, each, seed=3)).flatten()
    return target, predicted, names


def test_values_are_those_of_scikit_learn_and_scipy() -> None:
    target, predicted, runs = clustered()
    assert r2(target, predicted, runs).value == pytest.approx(r2_score(target, predicted), abs=1e-12)
    assert kendall_tau(target, predicted, runs).value == kendalltau(target, predicted).statistic
    tied = target.round()
    assert kendall_tau(tied, predicted, runs).value == kendalltau(tied, predicted).statistic
    assert accuracy(target > 0, runs).value == pytest.approx((target > 0).double().mean().item())
    assert explained(predicted**2, target**2, runs).value == pytest.approx(
        1 - float((predicted**2).sum() / target.square().sum())
    )


def test_a_target_far_from_zero_keeps_its_digits() -> None:
    target, predicted, runs = clustered()
    near, far = (r2(shift + 1e-3 * target, shift + 1e-3 * predicted, runs) for shift in (0, 1e4))
    assert far == pytest.approx(near, abs=1e-6)


def test_the_interval_of_r2_is_that_of_a_plain_bootstrap_over_runs() -> None:
    target, predicted, runs = clustered(runs=40, each=6)
    predicted = target + (predicted - target) / 2
    members = [np.flatnonzero(runs == name) for name in np.unique(runs)]
    draw = np.random.default_rng(0)
    plain = []
    for _ in range(1000):
        rows = np.concatenate([members[place] for place in draw.integers(40, size=40)])
        plain.append(r2_score(target[rows], predicted[rows]))
    found = r2(target, predicted, runs, 0)
    assert [found.low, found.high] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.06)


def test_resampled_sums_are_those_of_drawn_groups() -> None:
    sums = resampled_sums(torch.eye(7, dtype=torch.float64), "seed", resamples=4000)
    assert (sums.sum(dim=1) == 7).all() and (sums == sums.round()).all()
    # How often a group is drawn is binomial with 7 trials of probability 1/7.
    torch.testing.assert_close(sums.mean(dim=0), torch.ones(7, dtype=torch.float64), atol=0.06, rtol=0)
    torch.testing.assert_close(sums.var(dim=0), torch.full((7,), 6 / 7, dtype=torch.float64), atol=0.08, rtol=0)
    low, high = percentiles(torch.arange(101.0, dtype=torch.float64))
    assert [low.item(), high.item()] == pytest.approx([2.5, 97.5])


@pytest.mark.parametrize("measure", [r2, kendall_tau])
def test_an_interval_over_runs_is_wider_than_one_over_models_of_runs_that_share_nothing(measure: object) -> None:
    target, predicted, runs = clustered()
    ours = measure(target, predicted, runs, 0)
    # The same models, each put into any run: what they share is spread over all runs.
    mixed = measure(target, predicted, runs[torch.randperm(2000, generator=torch.Generator().manual_seed(0))], 0)
    assert ours.value == pytest.approx(mixed.value)
    assert 2 < (ours.high - ours.low) / (mixed.high - mixed.low) < 5  # 10 models a run: √10


@pytest.mark.parametrize("measure", [r2, kendall_tau])
def test_an_interval_is_a_function_of_its_keys(measure: object) -> None:
    given = clustered(runs=150, each=2)
    assert measure(*given, "a", 1) == measure(*given, "a", 1)
    assert measure(*given, "a", 1).low != measure(*given, "a", 2).low


@pytest.mark.parametrize("measure", [r2, kendall_tau])
def test_estimates_do_not_depend_on_the_order_of_the_models(measure: object) -> None:
    target, predicted, runs = clustered(runs=20)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(5))
    ours, other = measure(target, predicted, runs, 3), measure(target[order], predicted[order], runs[order], 3)
    assert ours == pytest.approx(other, abs=1e-12)


def test_the_jackknife_interval_is_as_wide_as_theory_says() -> None:
    # Var τ of n independent pairs of unrelated numbers is 2(2n + 5) / (9n(n - 1)).
    count, widths = 400, []
    for seed in range(5):
        found = kendall_tau(normal(count, seed=seed), normal(count, seed=seed + 50), np.arange(count), seed)
        widths.append(found.high - found.low)
    expected = 2 * norm.ppf(0.975) * np.sqrt(2 * (2 * count + 5) / (9 * count * (count - 1)))
    assert np.mean(widths) == pytest.approx(expected, rel=0.1)


def test_one_run_has_no_interval() -> None:
    target, predicted, _ = clustered(runs=1)
    for found in (r2(target, predicted, ["a"] * 10), kendall_tau(target, predicted, ["a"] * 10)):
        assert found.low is None and found.high is None


def test_what_is_not_defined_is_left_out_or_nothing() -> None:
    target = torch.tensor([0.0, 0.0, 1.0, 1.0])
    # Half of the resamples of two runs draw one run twice, and its targets are equal.
    found = r2(target, target + 0.1, ["a", "a", "b", "b"])
    assert [found.low, found.high] == pytest.approx([0.96, 0.96], abs=1e-6) and found.value == pytest.approx(0.96)
    assert kendall_tau(target, torch.ones(4), ["a", "a", "b", "b"]).value == 0
    assert kendall_tau(target, target, ["a", "b", "c", "d"]).high == 1
