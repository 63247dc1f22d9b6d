import itertools

import pytest
import torch
from graph_networks import distance, network
from torch import nn

from peace.graph.canonical import canonical_form, frobenius_normalised, sign_cover
from peace.graph.reading import Reading
from peace.graph.symmetry import sample

# One axis of either scaling, side by side.
STACK = network(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)), 4).stack


def test_the_raw_reading_changes_nothing() -> None:
    assert Reading(canonical=False, cover_signs=False)(STACK) is STACK


@pytest.mark.parametrize(
    ("canonical", "cover", "normalise"), list(itertools.product((0, 1), (0, 1), ("none", "frobenius")))
)
def test_normal_forms_are_taken_one_after_the_other(canonical: int, cover: int, normalise: str) -> None:
    expected = sign_cover(STACK) if cover else STACK
    expected = canonical_form(expected) if canonical else expected
    expected = frobenius_normalised(expected) if normalise == "frobenius" else expected
    found = Reading(bool(canonical), bool(cover), normalise)(STACK)
    assert found.graph == expected.graph and distance(found, expected) == 0
    assert found.graph.axes[2].size == (12 if cover else 6)


@pytest.mark.parametrize("normalise", ["none", "frobenius"])
@pytest.mark.parametrize("cover", [True, False])
def test_the_canonical_reading_sees_no_scale_and_no_sign(normalise: str, cover: bool) -> None:
    read = Reading(True, cover, normalise)
    element = sample(STACK.graph, len(STACK), torch.Generator().manual_seed(0))
    for mine, other in zip(read(STACK).weights, read(element.apply(STACK)).weights, strict=True):
        # Permutations alone are left: the same numbers in another order.
        torch.testing.assert_close(mine.flatten(1).sort().values, other.flatten(1).sort().values, rtol=1e-9, atol=1e-9)
        assert not torch.allclose(mine, other)


def test_the_raw_reading_sees_scales() -> None:
    element = sample(STACK.graph, len(STACK), torch.Generator().manual_seed(0))
    mine, other = (Reading(False, False)(stack).weights[0] for stack in (STACK, element.apply(STACK)))
    assert not torch.allclose(mine.flatten(1).sort().values, other.flatten(1).sort().values, rtol=0.01)
