import pytest
import torch
from scipy.stats import bootstrap, norm

from peace.errors import InputError
from peace.metrics.bootstrap import bootstrap_interval


def test_the_interval_agrees_with_the_normal_approximation_and_scipy() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)) * 3 + 5
    low, high = bootstrap_interval(values, 0)
    mean, half = values.mean().item(), norm.ppf(0.975) * values.std().item() / 20
    assert low.item() == pytest.approx(mean - half, abs=0.04)
    assert high.item() == pytest.approx(mean + half, abs=0.04)
    expected = bootstrap((values.numpy(),), lambda x, axis: x.mean(axis), method="percentile", n_resamples=1000, rng=0)
    assert [low.item(), high.item()] == pytest.approx(list(expected.confidence_interval), abs=0.04)


def test_the_interval_is_a_function_of_its_keys() -> None:
    values = torch.rand(50, generator=torch.Generator().manual_seed(0))
    assert bootstrap_interval(values, "a", 1) == bootstrap_interval(values, "a", 1)
    assert bootstrap_interval(values, "a", 1) != bootstrap_interval(values, "a", 2)


def test_columns_are_resampled_together() -> None:
    values = torch.rand(30, 1, generator=torch.Generator().manual_seed(0))
    low, high = bootstrap_interval(torch.cat([values, 2 * values, torch.ones(30, 1)], dim=1), 0)
    assert low[1].item() == pytest.approx(2 * low[0].item())
    assert high[1].item() == pytest.approx(2 * high[0].item())
    assert low[2] == high[2] == 1
    assert low[0] < values.mean() < high[0]


def test_many_queries_are_resampled_in_blocks() -> None:
    values = torch.arange(100_000) % 2
    low, high = bootstrap_interval(values, 0, resamples=60)
    assert 0.494 < low.item() < 0.5 < high.item() < 0.506


def test_no_query_is_refused() -> None:
    with pytest.raises(InputError, match="without queries"):
        bootstrap_interval(torch.zeros(0), 0)
