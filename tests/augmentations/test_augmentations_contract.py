"""What every augmentation promises, whatever it does."""

import json

import pytest
import torch
from torch import Tensor

from peace.augmentations import AUGMENTATIONS, Kinship
from peace.augmentations.views import partners, view
from peace.graph.build import from_architecture
from peace.graph.stack import Stack, join
from peace.zoo.architectures import build
from peace.zoo.initialisation import initialise

NODES = {
    "mlp": {"name": "mlp", "input_shape": [1, 4, 4], "outputs": 3, "activation": "tanh", "hidden": [6, 5]},
    "cnn": {"name": "cnn", "input_shape": [1, 7, 7], "outputs": 3, "activation": "relu", "channels": [4, 5],
            "kernels": [2, 2], "pools": [2, 1], "hidden": [6], "bias": False},
}  # fmt: skip

# Runs 0 to 7 of two checkpoints each; runs 0 to 3, 4 and 5, 6, and 7 have a recipe in common.
KINSHIP = Kinship(
    runs=torch.arange(8).repeat_interleave(2),
    recipes=torch.tensor([0] * 8 + [1] * 4 + [2] * 2 + [3] * 2),
    epochs=torch.tensor([10, 15] * 8),
)


def stack(name: str, models: int = 4) -> Stack:
    tensors = initialise(build(NODES[name]), "normal", torch.arange(models))
    biased = {key: tensor + 0.1 * (tensor.ndim == 2) for key, tensor in tensors.items()}
    return Stack.of(from_architecture(json.dumps(NODES[name])), biased)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parts(stack: Stack) -> list[Tensor]:
    return [tensor for tensor in (*stack.weights, *stack.biases) if tensor is not None]


def same(first: Stack, second: Stack) -> bool:
    return all(torch.equal(a, b) for a, b in zip(parts(first), parts(second), strict=True))


@pytest.mark.parametrize("network", NODES)
@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_a_view_is_a_stack_of_the_same_graph(name: str, network: str) -> None:
    whole = stack(network)
    for models in (whole, whole.select(slice(0, 1)), whole.to(torch.float64)):
        found = AUGMENTATIONS.build({"name": name}).transform(models, generator(0))
        assert found.graph == models.graph
        assert [tensor.shape for tensor in parts(found)] == [tensor.shape for tensor in parts(models)]
        assert [tensor.dtype for tensor in parts(found)] == [tensor.dtype for tensor in parts(models)]
        assert [bias is None for bias in found.biases] == [bias is None for bias in models.biases]
        assert all(tensor.isfinite().all() for tensor in parts(found))


@pytest.mark.parametrize("network", NODES)
@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_a_view_is_a_function_of_the_generator(name: str, network: str) -> None:
    augmentation = AUGMENTATIONS.build({"name": name})
    first, again, other = (augmentation.transform(stack(network), generator(seed)) for seed in (1, 1, 2))
    assert same(first, again)
    assert same(first, other) == same(first, stack(network)), "another generator gives another view, if it changes it"
    models = torch.arange(16)
    draws = [augmentation.partner(models, KINSHIP, generator(seed)) for seed in (1, 1, *range(2, 8))]
    assert torch.equal(draws[0], draws[1])


@pytest.mark.parametrize("network", NODES)
@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_what_is_given_stays_as_it_is(name: str, network: str) -> None:
    given, models = stack(network), torch.arange(16)
    state = [torch.clone(tensor) for tensor in (KINSHIP.runs, KINSHIP.recipes, KINSHIP.epochs)]
    augmentation = AUGMENTATIONS.build({"name": name})
    augmentation.transform(given, generator(0))
    augmentation.partner(models, KINSHIP, generator(0))
    assert same(given, stack(network)) and torch.equal(models, torch.arange(16))
    assert all(map(torch.equal, state, (KINSHIP.runs, KINSHIP.recipes, KINSHIP.epochs)))


@pytest.mark.parametrize("network", NODES)
@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_a_models_view_does_not_depend_on_the_others_weights(name: str, network: str) -> None:
    augmentation, whole = AUGMENTATIONS.build({"name": name}), stack(network)
    others = join([whole.select(slice(0, 1)), whole.select(slice(1, 4)).map(lambda tensor: -7 * tensor)])
    found, expected = (augmentation.transform(models, generator(0)) for models in (others, whole))
    assert same(found.select(slice(0, 1)), expected.select(slice(0, 1)))
    assert not same(found, expected)


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_copies_of_one_model_are_changed_differently(name: str) -> None:
    copies = stack("mlp").select(torch.zeros(2, dtype=torch.int64))
    found = AUGMENTATIONS.build({"name": name}).transform(copies, generator(0))
    changed = not same(found, copies)
    assert same(found.select(slice(0, 1)), found.select(slice(1, 2))) != changed


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_the_partner_is_a_model(name: str) -> None:
    models = torch.tensor([3, 3, 15, 0, 8])
    found = AUGMENTATIONS.build({"name": name}).partner(models, KINSHIP, generator(0))
    assert found.shape == models.shape and found.dtype == torch.int64
    assert (KINSHIP.recipes[found] == KINSHIP.recipes[models]).all()


def test_every_augmentation_takes_its_turn() -> None:
    everything = [AUGMENTATIONS.build({"name": name}) for name in ("near_duplicate", "checkpoint", "erasing", "noise")]
    one, given = generator(0), stack("mlp")
    expected = everything[3].transform(everything[2].transform(given, one), one)
    assert same(view(given, everything, generator(0))[0], expected)
    one, models = generator(0), torch.arange(16)
    step = everything[0].partner(models, KINSHIP, one)
    assert torch.equal(partners(models, KINSHIP, everything, generator(0)), everything[1].partner(step, KINSHIP, one))


def test_without_augmentations_a_view_shows_the_model_itself() -> None:
    given, models = stack("cnn"), torch.tensor([4, 2])
    assert (
        all(found is given for found in view(given, [], generator(0)))
        and partners(models, KINSHIP, [], generator(0)) is models
    )
