"""Populations: every model ends as the plain one-model loop ends, whatever it is trained with."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from zoo_cases import flat, members, plan

from peace.datasets.images import ImageData
from peace.datasets.tasks import Task
from peace.zoo.optimizers import Optimizer
from peace.zoo.population import Member, Plan, Population, Position, assign
from peace.zoo.reference import own_images, train_alone


def trained(plan: Plan, members: list[Member], data: ImageData, dtype: torch.dtype = torch.float64) -> Tensor:
    population = Population(plan, members, data, dtype)
    return through(population, population.start(), plan.epochs).weights


def through(population: Population, position: Position, epochs: int) -> Position:
    while position.epoch < epochs:
        for _ in population.epoch(position):
            pass
    return position


def difference(plan: Plan, data: ImageData, dtype: torch.dtype, dropout: bool) -> float:
    """Largest difference of a final weight from the one-model loop's, after making sure that training moved it."""
    own = members(dropout)
    weights = trained(plan, own, data, dtype)
    start = Population(plan, own, data, dtype).start().weights
    alone = torch.stack([flat(train_alone(plan, member, data, dtype)) for member in own])
    assert ((weights - start).abs().amax(1) > 1e-3).all()
    return float((weights - alone).abs().max())


@pytest.mark.parametrize("optimizer", Optimizer.NAMES)
@pytest.mark.parametrize("family", ["mlp", "cnn"])
def test_every_model_ends_as_if_trained_alone(family: str, optimizer: str, tiny: ImageData) -> None:
    assert difference(plan(family, optimizer, "relu"), tiny, torch.float64, False) < 1e-11


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("family", ["mlp", "cnn", "averaged"])
def test_activations_and_dropout(family: str, activation: str, dropout: bool, tiny: ImageData) -> None:
    chosen = plan(family, "adamw", activation, dropout)
    assert difference(chosen, tiny, torch.float64, dropout) < 1e-11


@pytest.mark.parametrize("family", ["mlp", "cnn"])
def test_single_precision_differs_by_rounding(family: str, tiny: ImageData) -> None:
    assert difference(plan(family, "momentum"), tiny, torch.float32, False) < 1e-5


@pytest.mark.parametrize("batch_size", [1, 5, 59, 1000])
def test_any_batch_size(batch_size: int, tiny: ImageData) -> None:
    assert difference(plan("mlp", "adam", batch_size=batch_size), tiny, torch.float64, False) < 1e-11


def test_dropout_of_a_member_changes_it_and_no_other(tiny: ImageData) -> None:
    chosen, own = plan("mlp", dropout=True), members()
    before = trained(chosen, own, tiny)
    own[1] = replace(own[1], dropout=0.5)
    moved = (trained(chosen, own, tiny) - before).abs().amax(1)
    assert moved[1] > 1e-3
    assert moved[torch.arange(len(own)) != 1].max() == 0


@pytest.mark.parametrize("family", ["mlp", "cnn"])
def test_a_model_is_the_same_among_others_and_alone(family: str, tiny: ImageData) -> None:
    chosen, own = plan(family, dropout=True), members(True)
    together = trained(chosen, own, tiny)
    assert (together.flip(0) - trained(chosen, own[::-1], tiny)).abs().max() < 1e-12
    for row, member in enumerate(own):
        alone = trained(chosen, [member], tiny)
        assert (alone[0] - together[row]).abs().max() < 1e-12


def test_a_diverging_neighbour_changes_no_bit(tiny: ImageData) -> None:
    chosen, own = plan("mlp", "sgd", "relu"), members()
    before = trained(chosen, own, tiny, torch.float32)
    own[1] = replace(own[1], learning_rate=1e30)
    after = trained(chosen, own, tiny, torch.float32)
    assert not after[1].isfinite().all()
    others = torch.arange(len(own)) != 1
    assert torch.equal(after[others], before[others])


def test_standard_deviations_are_each_model_s_own(tiny: ImageData) -> None:
    member = replace(members()[0], initialisation="truncated_normal")
    own = [member, replace(member, init_std=0.01), replace(member, init_std=0.5)]
    default, small, large = Population(plan("mlp"), own, tiny, torch.float64).start().weights
    layer = slice(0, 36 * 7)
    assert torch.allclose(small[layer] / 0.01, default[layer] * 36**0.5, rtol=1e-12)
    assert torch.allclose(large, small * 50, rtol=1e-12)
    alone = torch.stack([flat(train_alone(plan("mlp"), member, tiny, torch.float64)) for member in own])
    assert (trained(plan("mlp"), own, tiny) - alone).abs().max() < 1e-11


def test_seeds_alone_make_models_differ(tiny: ImageData) -> None:
    member = members()[0]
    weights = trained(plan("mlp"), [member, member, replace(member, seed=99)], tiny)
    assert torch.equal(weights[0], weights[1])
    assert (weights[0] - weights[2]).abs().max() > 0.1


def test_an_epoch_goes_on_where_it_stopped(tiny: ImageData) -> None:
    population = Population(plan("mlp", dropout=True), members(True), tiny)
    position = population.start()
    steps = iter(range(3))
    assert len(list(population.epoch(position, stop=lambda: next(steps, None) is None))) == 3
    assert (position.epoch, position.step) == (0, 3)
    resumed = through(population, position, 3).weights
    assert torch.equal(resumed, through(population, population.start(), 3).weights)
    assert population.steps == 8


def test_weights_kept_from_an_earlier_epoch_stay_as_they_were(tiny: ImageData) -> None:
    population = Population(plan("mlp"), members(), tiny)
    position = through(population, population.start(), 1)
    kept, copy = position.weights, position.weights.clone()
    through(population, position, 3)
    assert torch.equal(kept, copy) and not torch.equal(kept, position.weights)


def test_assignments_hold_each_models_own_images(tiny: ImageData) -> None:
    own = members()
    assignment = assign(own, tiny.y_train, 5, training=True)
    shares = [round(member.train_fraction * len(member.task.select(tiny.y_train, 5)[0])) for member in own]
    assert assignment.counts.tolist() == [max(1, share) for share in shares]
    for row, member in enumerate(own):
        count = int(assignment.counts[row])
        places = assignment.indices[row, :count]
        images, targets = own_images(member, tiny)
        assert len(places.unique()) == count
        assert torch.equal(tiny.x_train[places], images)
        assert torch.equal(assignment.targets[row, places].long(), targets)
        assert int((assignment.targets[row] >= 0).sum()) == count
        groups = [next(c for c, group in enumerate(member.task.groups) if label in group)
                  for label in tiny.y_train[places].tolist()]  # fmt: skip
        assert targets.tolist() == groups
    everything = assign(own, tiny.y_test, 5, training=False)
    assert everything.counts[4] == everything.counts[2] == sum(int((tiny.y_test == label).sum()) for label in (0, 2, 4))


def test_shares_of_the_training_set_are_nested_and_differ_by_seed(tiny: ImageData) -> None:
    def chosen(seed: int, fraction: float) -> set[int]:
        member = Member(Task("tiny"), seed, "normal", 0.1, train_fraction=fraction)
        assignment = assign([member], tiny.y_train, 5, training=True)
        return set(assignment.indices[0].tolist())

    assert chosen(1, 0.25) < chosen(1, 0.5) < chosen(1, 1.0) == set(range(59))
    assert chosen(1, 0.5) != chosen(2, 0.5)


def test_parameters_are_views_in_the_module_s_order(tiny: ImageData) -> None:
    population = Population(plan("cnn"), members(), tiny)
    weights = population.start().weights
    parameters = population.parameters(weights)
    module = population.module
    assert list(parameters) == list(dict(module.named_parameters()))
    module.load_state_dict({name: value[2] for name, value in parameters.items()})
    assert torch.equal(flat(module), weights[2])
