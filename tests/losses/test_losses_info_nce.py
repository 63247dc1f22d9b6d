import math

import pytest
import torch

from peace.losses.info_nce import InfoNCE
from random_pairs import pairs, random_pairs


def test_two_pairs_by_hand() -> None:
    first = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    second = torch.tensor([[3.0, 4.0], [0.0, 5.0]], dtype=torch.float64)
    # Cosines: a1 b1 0.6, a1 b2 0, a2 b1 0.8, a2 b2 1; divided by 0.5. First views are not compared with each other.
    expected = (math.log(math.exp(1.2) + 1) - 1.2 + math.log(math.exp(1.6) + math.exp(2)) - 2) / 2
    assert InfoNCE(0.5)(pairs(first, second)).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("earlier", [0, 11])
def test_values_and_gradients_are_those_of_the_sum_written_out(earlier: int) -> None:
    given = random_pairs(5, 4, earlier=earlier)
    views = (given.first, given.second)
    expected, left_out = torch.zeros((), dtype=torch.float64), 0
    for i in range(5):
        others = list(given.second)
        if given.memory:
            strangers = given.memory.facts.groups != given.facts.groups[i]
            left_out += int((~strangers).sum())
            others += list(given.memory.vectors[strangers])
        scores = [torch.cosine_similarity(given.first[i], other, dim=0).div(0.2).exp() for other in others]
        expected = expected - (scores[i] / sum(scores)).log() / 5
    assert bool(left_out) == bool(earlier)
    torch.testing.assert_close(InfoNCE(0.2)(given), expected, rtol=1e-12, atol=1e-12)
    found = torch.autograd.grad(InfoNCE(0.2)(given), views)
    torch.testing.assert_close(found, torch.autograd.grad(expected, views), rtol=1e-10, atol=1e-12)


def test_it_has_a_direction() -> None:
    given = random_pairs(6, 4)
    back = pairs(given.second, given.first)
    assert abs(InfoNCE(0.1)(given).item() - InfoNCE(0.1)(back).item()) > 1e-3
