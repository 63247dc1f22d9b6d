"""The compiled loop over small dense networks trains each of them as the plain one-model loop does."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from zoo_cases import flat, members, plan

from peace.datasets.images import ImageData
from peace.zoo import architectures
from peace.zoo.corruptions import Backdoor, LabelNoise
from peace.zoo.dense import _LANES, Dense
from peace.zoo.population import Plan, Population, Position
from peace.zoo.reference import train_alone


def built(hidden: list[int], activation: str = "tanh", dropout: bool = False) -> nn.Sequential:
    given = {"name": "mlp", "hidden": hidden, "activation": activation, "dropout": dropout}
    return architectures.build(given | {"input_shape": [2, 2, 2], "outputs": 3})


def small(hidden: list[int], activation: str, bias: bool, batch_size: int) -> Plan:
    chosen = plan("mlp", "adam", activation, batch_size=batch_size)
    return replace(chosen, architecture=chosen.architecture | {"hidden": hidden, "bias": bias})


def trained(population: Population, position: Position, epochs: int) -> Tensor:
    while position.epoch < epochs:
        for _ in population.epoch(position):
            pass
    return position.weights


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
@pytest.mark.parametrize("hidden", [[3], [3, 4, 5]])
def test_every_model_ends_as_if_trained_alone(
    hidden: list[int], activation: str, bias: bool, batch_size: int, tiny: ImageData
) -> None:
    """Models with images of their own in number, classes, decay and rate, some of which rest at the end of an epoch."""
    chosen, own = small(hidden, activation, bias, batch_size), members()
    population = Population(chosen, own, tiny, torch.float64)
    assert population.dense is not None
    start = population.start()
    before, weights = start.weights, trained(population, start, chosen.epochs)
    for member, first, last in zip(own, before, weights, strict=True):
        expected = flat(train_alone(chosen, member, tiny, torch.float64))
        assert (last - expected).abs().max() < 1e-10 < 1e-3 < (last - first).abs().max()


def test_single_precision_differs_by_rounding(tiny: ImageData) -> None:
    chosen, own = small([3], "tanh", True, 2), members()
    exact, rounded = (
        trained(population, population.start(), chosen.epochs)
        for population in (Population(chosen, own, tiny, dtype) for dtype in (torch.float64, torch.float32))
    )
    assert rounded.dtype == torch.float32
    assert 0 < (exact - rounded).abs().max() < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [1, 7, 13])
def test_an_epoch_goes_on_where_it_stopped_to_the_bit(
    steps: int, dtype: torch.dtype, tiny: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    population = Population(small([3], "tanh", True, 1), members(), tiny, dtype)
    whole = trained(population, population.start(), 2)
    monkeypatch.setattr("peace.zoo.population._STEPS", steps)
    position, asked = population.start(), iter(range(4))
    assert len(list(population.epoch(position, stop=lambda: next(asked, None) is None))) == 4
    assert (position.epoch, position.step) == (0, 4 * steps)
    kept, copy = position.weights, position.weights.clone()
    assert torch.equal(trained(population, position, 2), whole)
    assert torch.equal(kept, copy)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_model_is_the_same_to_the_bit_among_others_and_alone(dtype: torch.dtype, tiny: ImageData) -> None:
    chosen, own = small([3], "relu", True, 1), members()
    own[1] = replace(own[1], learning_rate=1e30 if dtype == torch.float32 else 1e300)
    population = Population(chosen, own, tiny, dtype)
    together = trained(population, population.start(), 3)
    for place in (0, 2, 3, 4):
        single = Population(chosen, own[place : place + 1], tiny, dtype)
        assert torch.equal(together[place], trained(single, single.start(), 3)[0])
    assert not together[1].isfinite().all()


def test_models_of_a_second_block_are_the_same_to_the_bit_as_those_of_the_first(tiny: ImageData) -> None:
    chosen, own = small([3], "tanh", False, 2), members()
    few, many = (
        trained(population, population.start(), 2)
        for population in (Population(chosen, own, tiny), Population(chosen, own * 25, tiny))
    )
    assert len(many) > _LANES and len(many) % _LANES and torch.equal(many, few.repeat(25, 1))


def test_a_model_sees_no_image_but_its_own(tiny: ImageData) -> None:
    """At the end of an epoch of others neither, where a slope of zero times infinity would be no number."""
    population = Population(small([3], "relu", True, 4), members(), tiny)
    whole = trained(population, population.start(), 1)
    own = population.train.indices[4, : population.train.counts[4]]
    others = torch.ones(len(population.pixels), dtype=torch.bool).index_fill(0, own, False)
    population.pixels = population.pixels.masked_fill(others[:, None], torch.nan)
    changed = trained(population, population.start(), 1)
    assert torch.equal(changed[4], whole[4]) and changed[0].isnan().any()


def test_large_outputs_are_learnt_from_as_alone(tiny: ImageData) -> None:
    chosen, own = small([3], "relu", True, 2), [replace(members()[0], initialisation="normal", init_std=60.0)]
    population = Population(chosen, own, tiny, torch.float64)
    expected = flat(train_alone(chosen, own[0], tiny, torch.float64))
    assert (trained(population, population.start(), chosen.epochs)[0] - expected).abs().max() < 1e-8


def test_a_resting_model_keeps_its_moments_and_count_of_steps(tiny: ImageData) -> None:
    chosen, own = small([3], "tanh", True, 2), members()
    population = Population(chosen, own, tiny)
    position = population.start()
    trained(population, position, 1)
    assert population.train.counts.unique().numel() > 1
    assert torch.equal(position.optimizer.state["steps"][:, 0].long(), -(-population.train.counts // 2))
    alone = Population(chosen, own[-1:], tiny)
    expected = alone.start()
    trained(alone, expected, 1)
    for name, value in expected.optimizer.state.items():
        assert torch.equal(position.optimizer.state[name][-1:], value)


def test_others_are_not_of_this_kind() -> None:
    assert Dense.of(built([5]), "adam", 1) is not None
    assert Dense.of(built([5]), "adamw", 1) is None
    cnn = {"name": "cnn", "channels": [2], "kernels": [2], "pools": [1], "hidden": [], "input_shape": [1, 3, 3]}
    convolutional = architectures.build(cnn | {"activation": "tanh", "outputs": 2})
    mixed = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    for module in (built([5], "gelu"), built([5], dropout=True), built([]), convolutional, mixed):
        assert Dense.of(module, "adam", 1) is None


def test_large_batches_are_not_small() -> None:
    assert Dense.of(built([8]), "adam", 8) is not None
    assert Dense.of(built([8]), "adam", 9) is None


def test_wrong_classes_are_learnt_as_alone(tiny: ImageData) -> None:
    chosen, own = small([3], "tanh", True, 2), [replace(members()[0], corruption=LabelNoise(0.5))]
    population = Population(chosen, own, tiny, torch.float64)
    assert population.dense is not None
    expected = flat(train_alone(chosen, own[0], tiny, torch.float64))
    weights = trained(population, population.start(), chosen.epochs)[0]
    clean = Population(chosen, members()[:1], tiny, torch.float64)
    assert (weights - expected).abs().max() < 1e-10
    assert (weights - trained(clean, clean.start(), chosen.epochs)[0]).abs().max() > 1e-3


def test_dropout_and_changed_images_are_trained_otherwise(tiny: ImageData) -> None:
    chosen, sound = small([3], "tanh", True, 1), members()[0]
    for changed in (replace(sound, dropout=0.1), replace(sound, corruption=Backdoor())):
        assert Population(chosen, [sound, changed], tiny).dense is None


def test_images_of_another_size_are_refused(tiny: ImageData) -> None:
    population = Population(small([3], "tanh", True, 1), members(), tiny)
    population.pixels = population.pixels[:, :35]
    with pytest.raises(ValueError, match="images of 35 numbers for networks of 36 inputs"):
        next(population.epoch(population.start()))
