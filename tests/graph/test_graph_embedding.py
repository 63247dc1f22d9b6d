"""End to end: encoders embed a network and what its whole group makes of it alike, and react to every tensor of it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from symmetry_cases import Case
from symmetry_coverage import NETWORKS, SMALL, floating, randomised
from test_graph_assembly import linear_network, residual
from test_graph_group_cases import CASES
from torch import Tensor, nn

from peace.encoders.edge_gnn import EdgeGNN
from peace.encoders.layer_gnn import LayerGNN
from peace.encoders.network_gnn import NetworkGNN
from peace.encoders.output_gnn import OutputGNN
from peace.encoders.scale_gnn import ScaleGNN
from peace.graph.assembly import from_group
from peace.graph.derive import derive
from peace.graph.group import SymmetryGroup
from peace.graph.reading import Reading
from peace.graph.weight_graph import WeightGraph

ENCODERS = {
    "layer_gnn": LayerGNN,
    "network_gnn": NetworkGNN,
    "output_gnn": OutputGNN,
    "scale_gnn": ScaleGNN,
    "edge_gnn": partial(EdgeGNN, max_weights=1_000_000),
}
CHEAP = ("layer_gnn", "network_gnn")
"""Those that meet every small network by default; the others meet one, and the rest in `slow`."""

HAND_MADE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (residual, (3, 6, 6)),
    "grouped": (linear_network, (3, 1, 1)),
}
DRAW = 7


class Embedded:
    """A network, its group and its graph, and what an encoder makes of state dicts."""

    def __init__(self, name: str, encoder: str, dtype: torch.dtype = torch.float32) -> None:
        generator = torch.Generator().manual_seed(0)
        if name in HAND_MADE:
            build, shape = HAND_MADE[name]
            self.module, example = build(), torch.zeros(2, *shape)
        else:
            self.module, example = NETWORKS[name].build(), NETWORKS[name].example(generator)
        self.group: SymmetryGroup = derive(self.module, example)
        self.graph: WeightGraph = from_group(self.group)
        self.dtype = dtype
        torch.manual_seed(0)
        self.encoder = ENCODERS[encoder](hidden_dim=16).to(dtype)

    def weights(self, seed: int) -> dict[str, Tensor]:
        module = randomised(self.module, torch.Generator().manual_seed(seed), self.dtype)
        return {name: tensor.clone() for name, tensor in floating(module).items()}

    @torch.no_grad()
    def __call__(self, tensors: dict[str, Tensor], reading: Reading | None = None) -> Tensor:
        """The tokens of all layers as one vector, in double precision."""
        stack = (reading or Reading()).of_models(self.group, self.graph, [tensors], self.dtype)
        return self.encoder(stack).double().flatten()

    def moved(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """What a random permutation, scaling and flip of signs makes of them."""
        return self.group.sample(torch.Generator().manual_seed(DRAW), general=False).apply(tensors)


def by_default(names: Sequence[str], one: str) -> pytest.MarkDecorator:
    """Every encoder with every network; all but one network are slow where the encoder is not among the cheap."""
    pairs = [(name, encoder) for name in names for encoder in ENCODERS]
    marked = [
        pytest.param(*pair, marks=() if pair[1] in CHEAP or pair[0] == one else pytest.mark.slow) for pair in pairs
    ]
    return pytest.mark.parametrize(("name", "encoder"), marked)


def distance(one: Tensor, other: Tensor) -> float:
    return ((one - other).norm() / one.norm()).item()


def check_invariance(name: str, encoder: str) -> None:
    network = Embedded(name, encoder)
    own, other = network.weights(1), network.weights(2)
    moved = network.moved(own)
    assert network.group.moved(network.group.sample(torch.Generator().manual_seed(DRAW), general=False)) > 0.5
    found = network(own)
    assert F.cosine_similarity(found, network(moved), dim=0) > 1 - 1e-5
    # A random initialisation may lie that close as well; the group's elements lie far closer.
    apart = distance(found, network(other))
    assert apart > 1e-3
    assert distance(found, network(moved)) < 1e-2 * apart


@by_default([*HAND_MADE, *SMALL], "residual")
def test_the_whole_group_leaves_the_embedding(name: str, encoder: str) -> None:
    check_invariance(name, encoder)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", [encoder for encoder in ENCODERS if encoder != "edge_gnn"])
@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in SMALL])
def test_the_whole_group_leaves_the_embedding_of_a_large_network(name: str, encoder: str) -> None:
    check_invariance(name, encoder)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_whole_group_leaves_the_embedding_of_a_small_module(case: Case) -> None:
    generator = torch.Generator().manual_seed(0)
    module = randomised(case.build(), generator)
    group, own = derive(module, *case.inputs(generator)), floating(module)
    graph = from_group(group)
    elements = group.sample(generator, elements=2, general=False)
    torch.manual_seed(0)
    for encoder in (LayerGNN(hidden_dim=8).double(), NetworkGNN(hidden_dim=8).double()):
        models = [own, elements[0].apply(own), elements[1].apply(own)]
        with torch.no_grad():
            tokens = encoder(Reading().of_models(group, graph, models, torch.float64))
        assert (tokens - tokens[:1]).norm() < 1e-6 * tokens.norm()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_models_in_a_batch_are_embedded_as_alone(encoder: str) -> None:
    network = Embedded("encoder_norm_first", encoder, torch.float64)
    models = [network.weights(seed) for seed in (1, 2, 3)]
    stack = Reading().of_models(network.group, network.graph, models, torch.float64)
    assert len(stack) == 3
    with torch.no_grad():
        together = network.encoder(stack).flatten(1)
    for row, tensors in zip(together, models, strict=True):
        assert distance(network(tensors), row) < 1e-12


@by_default(["residual", "grouped", "lstm", "encoder_norm_last"], "grouped")
def test_permutations_leave_the_embedding_of_the_tensors_as_they_are(name: str, encoder: str) -> None:
    network = Embedded(name, encoder, torch.float64)
    own, plain = network.weights(1), Reading(canonical=False)
    element = network.group.sample(torch.Generator().manual_seed(DRAW), general=False)
    permuted = replace(element, scale=torch.ones_like(element.scale)).apply(own)
    assert any(not torch.equal(permuted[key], own[key]) for key in own)
    assert distance(network(own, plain), network(permuted, plain)) < 1e-10


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_embedding_moves_without_the_canonical_form_or_with_a_tensor_left_out(encoder: str) -> None:
    network = Embedded("residual", encoder, torch.float64)
    own = network.weights(1)
    moved = network.moved(own)
    assert distance(network(own), network(moved)) < 1e-10
    assert distance(network(own, Reading(canonical=False)), network(moved, Reading(canonical=False))) > 1e-3
    assert distance(network(own), network({**moved, "inner.weight": own["inner.weight"]})) > 1e-3


@by_default(["residual", "grouped", "lstm", "encoder_norm_first"], "residual")
def test_every_tensor_is_seen(name: str, encoder: str) -> None:
    network = Embedded(name, encoder, torch.float64)
    own, other = network.weights(1), network.weights(2)
    found = network(own)
    for key, tensor in own.items():
        # Rounding moves it by 1e-15. Deep biases are small once the scales of the layers before are carried on.
        assert distance(found, network({**own, key: other[key]})) > 1e-6, key
        assert not torch.equal(tensor, other[key])
