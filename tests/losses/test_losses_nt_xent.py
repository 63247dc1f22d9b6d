import math

import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss
from torch import Tensor

from peace.losses.nt_xent import NTXent
from random_pairs import pairs, random_pairs


def views(models: int, dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, noise = (torch.randn(models, dim, generator=generator, dtype=torch.float64) for _ in range(2))
    return first, first + 0.5 * noise


def test_two_pairs_by_hand() -> None:
    first = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    second = torch.tensor([[3.0, 4.0], [0.0, 5.0]], dtype=torch.float64)
    # Cosines: a1 b1 0.6, a1 a2 0, a1 b2 0, b1 a2 0.8, b1 b2 0.8, a2 b2 1; divided by 0.5.
    a1 = math.log(math.exp(1.2) + 1 + 1) - 1.2
    b1 = math.log(math.exp(1.2) + 2 * math.exp(1.6)) - 1.2
    a2 = b2 = math.log(math.exp(2) + 1 + math.exp(1.6)) - 2
    assert NTXent(temperature=0.5)(pairs(first, second)).item() == pytest.approx((a1 + b1 + a2 + b2) / 4, abs=1e-12)


@pytest.mark.parametrize("models", [1, 2, 7])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_collapse_costs_the_logarithm_of_all_others(models: int, temperature: float) -> None:
    same = torch.tensor([0.3, -2.0, 1.0]).expand(models, -1)
    assert NTXent(temperature)(pairs(same, 5 * same)).item() == pytest.approx(math.log(2 * models - 1), abs=1e-5)


def test_perfect_views_by_closed_form() -> None:
    orthogonal = torch.eye(6, dtype=torch.float64)
    # Each view: partner at cosine 1, the 2N - 2 = 10 others at 0.
    expected = math.log(math.exp(1 / 0.2) + 10) - 1 / 0.2
    assert NTXent(0.2)(pairs(orthogonal, 3 * orthogonal)).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_values_and_gradients_are_those_of_pytorch_metric_learning(temperature: float) -> None:
    first, second = (part.requires_grad_() for part in views(9, 5))
    mine = torch.autograd.grad(NTXent(temperature)(pairs(first, second)), (first, second))
    labels = torch.arange(9).repeat(2)
    oracle = NTXentLoss(temperature=temperature)(torch.cat([first, second]), labels)
    assert NTXent(temperature)(pairs(first, second)).item() == pytest.approx(oracle.item(), rel=1e-10)
    torch.testing.assert_close(mine, torch.autograd.grad(oracle, (first, second)), rtol=1e-8, atol=1e-10)


def test_gradients_are_those_of_finite_differences() -> None:
    first, second = (part.requires_grad_() for part in views(3, 4))
    assert torch.autograd.gradcheck(lambda *views: NTXent(0.3)(pairs(*views)), (first, second))


def test_only_directions_count() -> None:
    first, second = views(6, 4)
    loss = NTXent(0.1)(pairs(first, second))
    lengths = torch.linspace(0.1, 9, 6, dtype=torch.float64)[:, None]
    torch.testing.assert_close(NTXent(0.1)(pairs(first * lengths, second / lengths)), loss)
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    torch.testing.assert_close(NTXent(0.1)(pairs(first @ rotation, second @ rotation)), loss)


def test_half_precision_is_computed_in_float32() -> None:
    first, second = (part.bfloat16() for part in views(16, 8))
    found = NTXent(0.1)(pairs(first, second))
    assert found.dtype == torch.float32
    assert torch.equal(found, NTXent(0.1)(pairs(first.float(), second.float())))
    assert NTXent(0.1)(pairs(first.double(), second.double())).dtype == torch.float64


def test_autocast_does_not_lower_the_precision() -> None:
    first, second = (part.float() for part in views(16, 8))
    expected = NTXent(0.1)(pairs(first, second))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (first @ second.T).dtype == torch.bfloat16
        assert torch.equal(NTXent(0.1)(pairs(first, second)), expected)


def test_zero_projections_stay_finite() -> None:
    first, second = torch.zeros(3, 4, requires_grad=True), torch.zeros(3, 4)
    loss = NTXent(0.1)(pairs(first, second))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(5), abs=1e-6) and first.grad.isfinite().all()


def test_views_may_be_exchanged() -> None:
    first, second = views(7, 5)
    torch.testing.assert_close(NTXent(0.1)(pairs(first, second)), NTXent(0.1)(pairs(second, first)), rtol=1e-14, atol=0)


def test_a_memory_adds_negatives_by_hand() -> None:
    given = random_pairs(4, 3, earlier=9)
    first, second = (torch.nn.functional.normalize(part, dim=1).detach() for part in (given.first, given.second))
    views, groups = torch.cat([first, second]), given.facts.groups.repeat(2)
    expected = 0.0
    for one in range(8):
        others = [float(views[one] @ views[k]) for k in range(8) if k != one]
        strangers = given.memory.facts.groups != groups[one]
        others += (given.memory.vectors[strangers] @ views[one]).tolist()
        partner = float(views[one] @ views[(one + 4) % 8])
        expected += (math.log(sum(math.exp(cosine / 0.3) for cosine in others)) - partner / 0.3) / 8
    assert (given.memory.facts.groups < 4).any(), "some of the memory ought to be left out"
    assert NTXent(0.3)(given).item() == pytest.approx(expected, abs=1e-12)
