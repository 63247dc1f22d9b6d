from dataclasses import replace

import pytest
import torch
from pytorch_metric_learning.losses import SupConLoss

from peace.losses.nt_xent import NTXent
from peace.losses.pairs import Facts, Pairs
from peace.losses.supervised import Supervised
from random_pairs import random_pairs


def relabelled(given: Pairs, labels: torch.Tensor) -> Pairs:
    return replace(given, facts=replace(given.facts, labels=labels))


@pytest.mark.parametrize("labels", [[0, 1, 0, 2, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1]], ids=str)
def test_values_and_gradients_are_those_of_pytorch_metric_learning(labels: list[int]) -> None:
    given = relabelled(random_pairs(7, 5), torch.tensor(labels))
    views = (given.first, given.second)
    oracle = SupConLoss(temperature=0.2)(torch.cat(views), torch.tensor(labels).repeat(2))
    assert Supervised(temperature=0.2)(given).item() == pytest.approx(oracle.item(), rel=1e-10)
    found = torch.autograd.grad(Supervised(temperature=0.2)(given), views)
    torch.testing.assert_close(found, torch.autograd.grad(oracle, views), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("labels", [[-1] * 6, [4, 2, 0, 1, 3, 5], [-1, 2, -1, 1, -1, 5]], ids=str)
def test_models_with_nothing_in_common_are_told_apart_as_in_nt_xent(labels: list[int]) -> None:
    given = relabelled(random_pairs(6, 4, earlier=10), torch.tensor(labels))
    memory = replace(given.memory, facts=replace(given.memory.facts, labels=torch.full((10,), 9)))
    given = replace(given, memory=memory)
    torch.testing.assert_close(Supervised(temperature=0.3)(given), NTXent(0.3)(given), rtol=1e-12, atol=0)


def test_the_memory_holds_positives_and_negatives() -> None:
    given = random_pairs(5, 3, earlier=12)
    views = torch.nn.functional.normalize(torch.cat([given.first, given.second]), dim=1).detach()
    facts, earlier = Facts(*(part.repeat(2) for part in vars(given.facts).values())), given.memory.facts
    expected, from_memory = 0.0, 0
    for i in range(10):
        others = [k for k in range(10) if k != i]
        scores = [float(views[i] @ views[k]) / 0.3 for k in others]
        alike = [k == (i + 5) % 10 or facts.labels[k] == facts.labels[i] >= 0 for k in others]
        for k in range(12):
            if earlier.groups[k] != facts.groups[i]:
                scores.append(float(views[i] @ given.memory.vectors[k]) / 0.3)
                alike.append(bool(earlier.labels[k] == facts.labels[i] >= 0))
                from_memory += alike[-1]
        whole = torch.tensor(scores).double().logsumexp(0).item()
        chosen = [whole - score for score, same in zip(scores, alike, strict=True) if same]
        expected += sum(chosen) / len(chosen) / 10
    assert from_memory > 3
    assert Supervised(temperature=0.3)(given).item() == pytest.approx(expected, rel=1e-6)


def test_the_label_is_a_column() -> None:
    assert Supervised(label="recipe").label == "recipe" and Supervised().label == "task"
    assert Supervised().value is None and NTXent().label is None
