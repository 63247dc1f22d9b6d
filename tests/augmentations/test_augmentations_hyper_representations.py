"""The augmentations of hyper-representations, and what a decoder should make of a view."""

import json

import pytest
import torch
from test_augmentations_transforms import MODELS, generator, stack

from peace.augmentations.noise import Noise
from peace.augmentations.permutation import Permutation
from peace.augmentations.random_erasing import RandomErasing
from peace.augmentations.views import check_decodable, view
from peace.errors import InputError
from peace.graph.build import from_architecture
from peace.graph.sequences import vector
from peace.graph.stack import Stack


def test_a_permutation_renumbers_and_does_no_more() -> None:
    given = stack()
    found = Permutation().transform(given, generator())
    assert (vector(found) != vector(given)).any(1).all()
    for before, after in zip(given.biases, found.biases, strict=True):
        assert torch.equal(before.sort(1).values, after.sort(1).values), "no scale and no sign"


def test_precomputed_permutations_are_so_many() -> None:
    given = stack().select(torch.zeros(MODELS, dtype=torch.int64))
    assert len(vector(Permutation(precomputed=4).transform(given, generator())).unique(dim=0)) <= 4**3
    assert len(vector(Permutation(precomputed=1).transform(given, generator())).unique(dim=0)) == 1
    once, again = (Permutation(precomputed=1).transform(given, generator(seed)) for seed in (1, 2))
    assert torch.equal(vector(once), vector(again)), "drawn once for all"


def test_where_there_are_no_more_orders_than_are_precomputed_all_are_taken() -> None:
    architecture = {"name": "mlp", "input_shape": [1, 2, 2], "outputs": 2, "hidden": [3], "activation": "tanh"}
    graph = from_architecture(json.dumps(architecture))
    rows = torch.arange(12.0).reshape(1, 3, 4, 1).expand(600, -1, -1, -1)
    given = Stack(graph, (rows, torch.ones(600, 2, 3, 1)), (None, None))
    for precomputed in (6, 100):
        found = Permutation(precomputed=precomputed).transform(given, generator()).weights[0]
        assert len(found.unique(dim=0)) == 6


def test_one_stretch_is_erased_and_the_rest_is_left() -> None:
    given = stack()
    flat, found = vector(given), vector(RandomErasing(1.0, 0.1, 0.4).transform(given, generator()))
    gone = found == 0
    assert torch.equal(found, flat.masked_fill(gone, 0))
    edges = (gone[:, 1:] != gone[:, :-1]).sum(1) + gone[:, 0].int() + gone[:, -1].int()
    assert (edges == 2).all(), "it begins once and ends once"
    share = gone.double().mean(1)
    assert share.min() > 0.09 and share.max() < 0.41 and share.std() > 0.05
    # Uniform places: neither end is spared.
    assert gone[:, :5].any() and gone[:, -5:].any()


def test_erasing_happens_with_its_probability() -> None:
    many = stack().select(torch.arange(1000) % MODELS)
    touched = (vector(RandomErasing(0.3).transform(many, generator())) == 0).any(1).double().mean()
    assert touched.item() == pytest.approx(0.3, abs=0.06)
    assert torch.equal(vector(RandomErasing(0.0).transform(many, generator())), vector(many))


def test_erasing_refuses_bounds_in_the_wrong_order() -> None:
    with pytest.raises(InputError, match="nothing between the bounds"):
        RandomErasing(0.5, 0.3, 0.1)


def test_nothing_is_erased_where_the_share_is_none() -> None:
    assert torch.equal(vector(RandomErasing(1.0, 0.0, 0.0).transform(stack(), generator())), vector(stack()))


def test_noise_is_in_the_units_of_the_weights_or_the_same_for_all() -> None:
    large = stack().map(lambda tensor: 1000 * tensor)
    moved = vector(Noise(0.05, relative=False).transform(large, generator())) - vector(large)
    assert moved.std().item() == pytest.approx(0.05, rel=0.05)


def test_a_decoder_gives_back_what_was_renumbered_but_not_erased() -> None:
    given = stack()
    augmentations = [Permutation(), RandomErasing(1.0), Noise(0.1)]
    seen, original = view(given, augmentations, generator())
    assert torch.equal(vector(original), vector(Permutation().transform(given, generator())))
    assert (vector(seen) != vector(original)).all()


def test_what_leaves_functions_alone_comes_first() -> None:
    check_decodable([Permutation(), RandomErasing()])
    with pytest.raises(InputError, match="'permutation' comes after 'randomerasing'"):
        check_decodable([RandomErasing(), Permutation()])
