"""What every loss promises; that two processes find what one finds stands in `tests/distributed`."""

import math
from dataclasses import replace

import pytest
import torch

from peace.losses import LOSSES
from peace.losses.pairs import Facts, Memory, Pairs
from random_pairs import pairs, random_pairs

NAMES = LOSSES.names()
EARLIER = [0, 13]


def reordered(given: Pairs, order: torch.Tensor) -> Pairs:
    return replace(given, first=given.first[order], second=given.second[order], facts=given.facts.select(order))


@pytest.mark.parametrize("earlier", EARLIER)
@pytest.mark.parametrize("name", NAMES)
def test_every_view_is_told_where_to_go(name: str, earlier: int) -> None:
    given = random_pairs(7, 5, earlier=earlier)
    value = LOSSES.build({"name": name})(given)
    assert value.shape == () and value.isfinite() and value.dtype == torch.float64
    for gradient in torch.autograd.grad(value, (given.first, given.second)):
        assert gradient.isfinite().all() and (gradient.norm(dim=1) > 0).all()


@pytest.mark.parametrize("earlier", EARLIER)
@pytest.mark.parametrize("name", NAMES)
def test_neither_the_order_nor_the_length_counts(name: str, earlier: int) -> None:
    loss, given = LOSSES.build({"name": name}), random_pairs(7, 5, earlier=earlier)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loss(reordered(given, order)), loss(given))
    lengths = torch.linspace(0.1, 9, 7, dtype=torch.float64)[:, None]
    scaled = replace(given, first=given.first * lengths, second=given.second / lengths)
    torch.testing.assert_close(loss(scaled), loss(given))


@pytest.mark.parametrize("name", NAMES)
def test_views_of_one_model_ought_to_lie_together(name: str) -> None:
    loss, drawn = LOSSES.build({"name": name}), random_pairs(7, 5)
    given = pairs(drawn.first, drawn.second)
    aligned = loss(replace(given, second=given.first))
    assert aligned < loss(given) < loss(replace(given, second=given.second.roll(1, 0)))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "positive"])
def test_collapse_costs_the_logarithm_of_all_that_is_compared(name: str) -> None:
    loss = LOSSES.build({"name": name})
    others = 6 if name == "info_nce" else 11
    same = torch.tensor([0.6, -0.8, 0.0], dtype=torch.float64).expand(6, -1)
    facts = replace(random_pairs(6, 3).facts, groups=torch.arange(6))
    assert loss(Pairs(same, 5 * same, facts)).item() == pytest.approx(math.log(others), abs=1e-12)
    strangers = Facts(torch.arange(10, 14), torch.tensor([0, 1, 2, -1]), torch.zeros(4))
    with_memory = Pairs(same, 5 * same, facts, Memory(same[:4], strangers))
    assert loss(with_memory).item() == pytest.approx(math.log(others + 4), abs=1e-12)
    relatives = replace(strangers, groups=torch.zeros(4, dtype=torch.int64))
    share = 1 / 6  # of the anchors leave the memory out, as all of it is of their group
    expected = share * math.log(others) + (1 - share) * math.log(others + 4)
    related = Pairs(same, 5 * same, facts, Memory(same[:4], relatives))
    assert loss(related).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_computed_in_float32(name: str) -> None:
    loss, given = LOSSES.build({"name": name}), random_pairs(9, 5, earlier=6)
    half = replace(given, first=given.first.bfloat16(), second=given.second.bfloat16())
    exact = replace(half, first=half.first.float(), second=half.second.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(half)
    assert found.dtype == torch.float32 and torch.equal(found, loss(exact))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "positive"])
def test_the_temperature_may_be_learned(name: str) -> None:
    loss = LOSSES.build({"name": name, "temperature": 0.2, "learned_temperature": True})
    given = random_pairs(6, 4, earlier=5)
    torch.testing.assert_close(loss(given), LOSSES.build({"name": name, "temperature": 0.2})(given), rtol=1e-6, atol=0)
    loss(given).backward()
    (parameter,) = loss.parameters()
    assert parameter.grad.isfinite() and parameter.grad != 0


@pytest.mark.parametrize("name", NAMES)
def test_projections_of_zero_and_a_single_model_stay_finite(name: str) -> None:
    loss = LOSSES.build({"name": name})
    for models in (1, 3):
        given = random_pairs(models, 4)
        zero = torch.zeros(models, 4, requires_grad=True)
        value = loss(replace(given, first=zero, second=torch.zeros(models, 4)))
        value.backward()
        assert value.isfinite() and zero.grad.isfinite().all()
