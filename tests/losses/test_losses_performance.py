import math
from dataclasses import replace

import pytest
import torch

from peace.losses.nt_xent import NTXent
from peace.losses.performance import Performance
from random_pairs import random_pairs


@pytest.mark.parametrize("earlier", [0, 9])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_targets_fall_with_the_distance_of_performances(share: float, earlier: int) -> None:
    given = random_pairs(4, 3, earlier=earlier)
    given = replace(given, partners=replace(given.facts, values=given.facts.values.flip(0) / 3))
    views = torch.nn.functional.normalize(torch.cat([given.first, given.second]), dim=1).detach()
    values = [*given.facts.values.tolist(), *given.of_second.values.tolist()]
    groups = given.facts.groups.repeat(2).tolist()
    known = [(views[k], values[k], None) for k in range(8)]
    if given.memory:
        earlier_facts = given.memory.facts
        known += list(
            zip(given.memory.vectors, earlier_facts.values.tolist(), earlier_facts.groups.tolist(), strict=True)
        )
    expected = 0.0
    for i in range(8):
        others = [k for k in range(len(known)) if k != i and known[k][2] != groups[i]]
        scores = {k: math.exp(float(views[i] @ known[k][0]) / 0.4) for k in others}
        weights = {k: math.exp(-abs(values[i] - known[k][1]) / 0.7) for k in others}
        for k in others:
            target = share * weights[k] / sum(weights.values()) + (1 - share) * (k == (i + 4) % 8)
            expected -= target * math.log(scores[k] / sum(scores.values())) / 8
    loss = Performance(spread=0.7, share=share, temperature=0.4)
    assert loss(given).item() == pytest.approx(expected, rel=1e-10)


def test_without_a_share_it_is_nt_xent() -> None:
    given = random_pairs(6, 4, earlier=10)
    torch.testing.assert_close(Performance(share=0.0)(given), NTXent()(given), rtol=1e-12, atol=0)


def test_models_that_perform_alike_may_lie_together() -> None:
    directions = torch.eye(4, dtype=torch.float64)
    given = random_pairs(4, 4)
    costs = []
    for places in ([0, 0, 1, 1], [0, 1, 0, 1]):
        # The first two models perform alike, and so do the last two.
        facts = replace(given.facts, values=torch.tensor([-1.0, -1.0, 1.0, 1.0]).double())
        costs.append(Performance(share=1.0)(replace(given, first=directions[places], second=directions[places],
                                                    facts=facts)).item())  # fmt: skip
    assert costs[0] < costs[1] - 1


def test_the_value_is_a_column() -> None:
    assert Performance().value == "test_accuracy" and Performance().label is None
    assert Performance(value="test_loss").value == "test_loss"
