"""Initial weights: the distributions of `torch.nn.init`, and nothing but a function of seed and name."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from peace.errors import InputError
from peace.zoo.initialisation import INITIALISATIONS, WITH_STD, initialise

SEEDS = torch.arange(1, 101)
LAYERS = {"linear": nn.Linear(30, 20), "convolution": nn.Conv2d(6, 8, 4)}
FANS = {"linear": (30, 20), "convolution": (6 * 16, 8 * 16)}
TORCH: dict[str, Callable[[Tensor], Tensor]] = {
    "kaiming_uniform": lambda tensor: nn.init.kaiming_uniform_(tensor, nonlinearity="relu"),
    "kaiming_normal": lambda tensor: nn.init.kaiming_normal_(tensor, nonlinearity="relu"),
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
    "orthogonal": nn.init.orthogonal_,
    "unit_uniform": nn.init.uniform_,
    "unit_normal": nn.init.normal_,
}


def drawn(layer: str, method: str) -> Tensor:
    return initialise(nn.Sequential(LAYERS[layer]), method, SEEDS, torch.float64)["0.weight"]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("method", sorted(INITIALISATIONS.keys() - {"orthogonal"}))
def test_weights_follow_the_named_distribution(method: str, layer: str) -> None:
    """Bounds and deviations by hand: √(6/n), √(2/n), √(6/(n+m)), √(2/(n+m)), and 1/√n for torch's own default."""
    fan_in, fan_out = FANS[layer]
    scale = {
        "uniform": 1 / math.sqrt(fan_in),
        "normal": 1 / math.sqrt(fan_in),
        "kaiming_uniform": math.sqrt(6 / fan_in),
        "kaiming_normal": math.sqrt(2 / fan_in),
        "xavier_uniform": math.sqrt(6 / (fan_in + fan_out)),
        "xavier_normal": math.sqrt(2 / (fan_in + fan_out)),
        "truncated_normal": 1 / math.sqrt(fan_in),
        "unit_normal": 1.0,
        "unit_uniform": 1.0,
    }[method]
    normal = stats.truncnorm(-2, 2, 0, scale) if method == "truncated_normal" else stats.norm(0, scale)
    low = 0.0 if method == "unit_uniform" else -scale
    distribution = stats.uniform(low, scale - low) if method.endswith("uniform") else normal
    weights = drawn(layer, method).flatten()
    assert stats.kstest(weights.numpy(), distribution.cdf).pvalue > 0.01
    assert not method.endswith("uniform") or weights.abs().max() <= scale


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("method", TORCH)
def test_weights_spread_as_those_of_torch_do(method: str, layer: str) -> None:
    torch.manual_seed(0)
    theirs = torch.stack([TORCH[method](torch.empty_like(LAYERS[layer].weight)) for _ in SEEDS])
    ours = drawn(layer, method)
    # 60,000 numbers each: the standard error of a deviation is about 0.3 %.
    assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.015)
    centre = 0.5 if method == "unit_uniform" else 0.0
    assert (ours.mean() - centre).abs() < 4 * ours.std() / ours.numel() ** 0.5
    if method.endswith("uniform"):
        assert ours.abs().max().item() == pytest.approx(theirs.abs().max().item(), rel=0.001)


@pytest.mark.parametrize("layer", [nn.Linear(30, 20), nn.Linear(20, 30), nn.Conv2d(2, 8, 4), nn.Conv2d(1, 16, 3)])
def test_orthogonal_rows_or_columns(layer: nn.Module) -> None:
    weights = initialise(nn.Sequential(layer), "orthogonal", SEEDS, torch.float64)["0.weight"].flatten(2)
    wide = weights if weights.shape[1] <= weights.shape[2] else weights.mT
    assert (wide @ wide.mT - torch.eye(wide.shape[1], dtype=torch.float64)).abs().max() < 1e-12
    # Uniform over such matrices, so that the sign of no entry is fixed.
    assert weights.sign().mean(0).abs().max() < 0.6


@pytest.mark.parametrize("method", WITH_STD)
def test_a_given_standard_deviation_takes_the_place_of_the_method_s(method: str) -> None:
    module = nn.Sequential(LAYERS["convolution"])
    stds = [0.3, None] * 50
    given = initialise(module, method, SEEDS, torch.float64, stds)["0.weight"]
    assert torch.equal(given[1::2], drawn("convolution", method)[1::2])
    truncated = method == "truncated_normal"
    distribution = stats.truncnorm(-2, 2, 0, 0.3) if truncated else stats.norm(0, 0.3)
    assert stats.kstest(given[::2].flatten().numpy(), distribution.cdf).pvalue > 0.01


def test_uniform_is_the_default_of_torch() -> None:
    torch.manual_seed(0)
    theirs = torch.stack([nn.Linear(30, 20).weight.detach() for _ in SEEDS])
    assert drawn("linear", "uniform").abs().max().item() == pytest.approx(theirs.abs().max().item(), rel=0.001)


def test_biases_start_at_zero() -> None:
    for values in initialise(nn.Sequential(*LAYERS.values()), "normal", SEEDS).values():
        assert values.ndim > 2 or not values.any()
    assert initialise(nn.Sequential(LAYERS["linear"]), "normal", SEEDS)["0.bias"].shape == (100, 20)


def test_a_model_s_weights_depend_on_its_seed_and_the_parameter_only() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    together = initialise(module, "kaiming_normal", torch.tensor([5, 900, 5]))
    alone = initialise(module, "kaiming_normal", torch.tensor([900]))
    for name, values in together.items():
        assert torch.equal(values[1], alone[name][0]) and torch.equal(values[0], values[2])
    assert not torch.equal(together["0.weight"][0], together["0.weight"][1])
    assert not torch.equal(together["0.weight"][0], together["1.weight"][0])


def test_types_differ_by_rounding_only() -> None:
    exact, rounded = (
        initialise(nn.Sequential(LAYERS["linear"]), "xavier_normal", SEEDS, dtype)["0.weight"]
        for dtype in (torch.float64, torch.float32)
    )
    assert rounded.dtype == torch.float32
    assert torch.equal(exact.float(), rounded)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match="unknown initialisation 'kaiming'; did you mean 'kaiming_normal'"):
        initialise(nn.Sequential(LAYERS["linear"]), "kaiming", SEEDS)
