"""Optimisers over a population: torch's own, update for update, with a learning rate and a weight decay a model."""

import pytest
import torch
from torch import Tensor

from peace.errors import InputError
from peace.zoo.optimizers import Optimizer
from peace.zoo.reference import OPTIMIZERS

RATES, DECAYS = [0.1, 0.003, 0.5], [0.0, 0.2, 0.01]
STEPS, SIZE = 12, 7


def column(values: list[float], dtype: torch.dtype) -> Tensor:
    return torch.tensor(values, dtype=dtype)[:, None]


def cases(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weights [M, P] and gradients [steps, M, P], some of them zero, as those of dead units are."""
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(STEPS, 3, SIZE, generator=generator, dtype=dtype)
    gradients[:, :, 0] = 0
    return torch.randn(3, SIZE, generator=generator, dtype=dtype), gradients


def theirs(name: str, weights: Tensor, gradients: Tensor, decays: list[float], active: Tensor) -> Tensor:
    """Each model by `torch.optim`, which steps only where it is active. Shape: [steps, M, P]."""
    path = []
    for model, (rate, decay) in enumerate(zip(RATES, decays, strict=True)):
        parameter = weights[model].clone().requires_grad_()
        optimizer = OPTIMIZERS[name]([parameter], lr=rate, weight_decay=decay)
        own = []
        for gradient, steps in zip(gradients[:, model], active[:, model], strict=True):
            parameter.grad = gradient.clone()
            if steps:
                optimizer.step()
            own.append(parameter.detach().clone())
        path.append(torch.stack(own))
    return torch.stack(path, dim=1)


def ours(name: str, weights: Tensor, gradients: Tensor, decays: list[float], active: Tensor | None) -> Tensor:
    optimizer = Optimizer(name, column(RATES, weights.dtype), column(decays, weights.dtype))
    path = []
    for step, gradient in enumerate(gradients):
        weights = optimizer.step(weights, gradient, None if active is None else active[step][:, None])
        path.append(weights)
    return torch.stack(path)


def test_names_are_those_that_torch_s_optimisers_are_known_by() -> None:
    assert tuple(OPTIMIZERS) == Optimizer.NAMES


@pytest.mark.parametrize("decays", [DECAYS, [0.0] * 3], ids=["decay", "no decay"])
@pytest.mark.parametrize("name", Optimizer.NAMES)
def test_every_step_is_torch_s(name: str, decays: list[float]) -> None:
    weights, gradients = cases(torch.float64)
    expected = theirs(name, weights, gradients, decays, torch.ones(STEPS, 3, dtype=torch.bool))
    found = ours(name, weights, gradients, decays, None)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert (found[-1] - weights).abs().max() > 0.01


@pytest.mark.parametrize("name", Optimizer.NAMES)
def test_single_precision_agrees_from_the_first_step_on(name: str) -> None:
    """The bias corrections of Adam lose four digits in the first steps where they are computed in single precision."""
    weights, gradients = cases(torch.float32)
    expected = theirs(name, weights, gradients, DECAYS, torch.ones(STEPS, 3, dtype=torch.bool))
    found = ours(name, weights, gradients, DECAYS, None)
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", Optimizer.NAMES)
def test_a_resting_model_keeps_weights_and_moments(name: str) -> None:
    weights, gradients = cases(torch.float64)
    active = torch.rand(STEPS, 3, generator=torch.Generator().manual_seed(1)) < 0.6
    assert active.any(0).all() and not active.all(0).any()
    found = ours(name, weights, gradients, DECAYS, active)
    assert torch.allclose(found, theirs(name, weights, gradients, DECAYS, active), rtol=1e-12, atol=1e-12)
    for step in range(1, STEPS):
        assert torch.equal(found[step][~active[step]], found[step - 1][~active[step]])


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match="unknown zoo optimiser 'adma'; did you mean 'adam'"):
        Optimizer("adma", torch.ones(1, 1), torch.zeros(1, 1))
