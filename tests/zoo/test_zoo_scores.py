"""Scores of a population: those of scikit-learn for each model by itself."""

from dataclasses import replace

import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss
from torch import Tensor
from zoo_cases import members, plan

from peace.datasets.images import ImageData
from peace.zoo import scores
from peace.zoo.population import Member, Population
from peace.zoo.reference import own_images, score_alone
from peace.zoo.scores import as_columns, score


def population_of(family: str, data: ImageData, own: list[Member]) -> tuple[Population, Tensor]:
    """Models a few epochs into their training, so that they are neither at chance nor perfect."""
    population = Population(plan(family), own, data, torch.float64)
    position = population.start()
    for _ in population.epoch(position):
        pass
    return population, position.weights


def parts(member: Member, data: ImageData) -> dict[str, tuple[Tensor, Tensor]]:
    test, targets = member.task.select(data.y_test, len(data.classes))
    return {"train": own_images(member, data, torch.float64), "test": (data.x_test[test].double(), targets)}


@pytest.mark.parametrize("elements", [1 << 20, 100, 1])
@pytest.mark.parametrize("family", ["mlp", "cnn"])
def test_scores_are_those_of_scikit_learn(
    family: str, elements: int, tiny: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "_ELEMENTS", elements)
    own = members()
    population, weights = population_of(family, tiny, own)
    found = score(population, weights)
    parameters = population.parameters(weights)
    for row, member in enumerate(own):
        population.module.load_state_dict({name: value[row] for name, value in parameters.items()})
        for part, (images, targets) in parts(member, tiny).items():
            with torch.no_grad():
                probabilities = population.module(images).softmax(1)
            predicted = probabilities.argmax(1)
            alone = score_alone(population.module, images, targets)
            f1 = f1_score(targets, predicted, labels=range(3), average=None, zero_division=0)
            expected = {
                "loss": log_loss(targets, probabilities, labels=range(3)),
                "accuracy": accuracy_score(targets, predicted),
                "f1": f1.tolist(),
            }
            for name, value in expected.items():
                assert found[f"{part}_{name}"][row].tolist() == pytest.approx(value, abs=1e-6)
                assert alone[name].tolist() == pytest.approx(value, abs=1e-6)
        gap = found["train_accuracy"][row] - found["test_accuracy"][row]
        assert found["generalisation_gap"][row] == gap
    assert 0.3 < found["test_accuracy"].mean() < 1


def test_equal_outputs_count_for_the_first_class(tiny: ImageData) -> None:
    own = members()[:2]
    population = Population(plan("mlp"), own, tiny)
    found = score(population, torch.zeros_like(population.start().weights))
    for row, member in enumerate(own):
        share = (parts(member, tiny)["test"][1] == 0).double().mean().item()
        assert found["test_accuracy"][row].item() == pytest.approx(share)
        assert found["test_loss"][row].item() == pytest.approx(1.0986123)
        assert found["test_f1"][row].tolist() == pytest.approx([2 * share / (1 + share), 0, 0])


def test_a_model_whose_weights_are_not_finite_scores_nan_and_no_other_does(tiny: ImageData) -> None:
    population, weights = population_of("cnn", tiny, members())
    before = score(population, weights)
    weights = weights.clone()
    weights[1, 3], weights[3, -1] = torch.nan, torch.inf
    after = score(population, weights)
    others = torch.tensor([0, 2, 4])
    for name, value in after.items():
        assert value[[1, 3]].isnan().all()
        assert torch.equal(value[others], before[name][others])


def test_scores_need_not_know_what_trained_the_models(tiny: ImageData) -> None:
    own = members()
    population, weights = population_of("mlp", tiny, own)
    other = Population(plan("mlp", "sgd"), [replace(member, learning_rate=7.0) for member in own], tiny, torch.float64)
    for name, value in score(other, weights).items():
        assert torch.equal(value, score(population, weights)[name])


def test_columns_are_plain_numbers() -> None:
    found = {"test_loss": torch.tensor([0.5, 0.25]), "test_f1": torch.tensor([[0.0, 1.0], [0.5, 0.75]])}
    assert as_columns(found)[1] == {"test_loss": 0.25, "test_f1": [0.5, 0.75]}
