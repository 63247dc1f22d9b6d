"""What every encoder promises under every aggregator, at default arguments; a new one is tested by being there.

By default every encoder is tested with one aggregator and every aggregator with one encoder; `slow` is all the others,
and part of what is dear: the edge-list encoders share all but a step with `graphsage`, which meets every test.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peace.aggregators import AGGREGATORS
from peace.augmentations.erasing import Erasing
from peace.augmentations.noise import Noise
from peace.config import compose
from peace.encoders import ENCODERS, Symmetry
from peace.encoders.layer_statistics import STATISTICS_DIM, layer_statistics
from peace.graph.assembly import from_group
from peace.graph.build import from_architecture
from peace.graph.derive import derive
from peace.graph.group import SymmetryGroup
from peace.graph.stack import Stack, join
from peace.graph.symmetry import GroupElement, sample
from peace.graph.weight_graph import WeightGraph
from peace.losses.nt_xent import NTXent
from peace.models.embedder import Embedder, build_embedder
from peace.models.saving import load_producer, save_producer
from peace.zoo.architectures import build
from random_pairs import pairs as pairs_of

ENCODER, AGGREGATOR, DEAR = "network_gnn", "mean", ("gat", "geom_gcn")
EXACT, SINGLE = 1e-10, 1e-4

_MLP = {"name": "mlp", "input_shape": [2, 4, 4], "outputs": 4}
_CNN = {"name": "cnn", "channels": [4, 9], "kernels": [2, 2], "pools": [2, 1], "input_shape": [2, 7, 7], "outputs": 4}
NODES = {
    "mlp-relu": {**_MLP, "hidden": [6, 5], "activation": "relu"},
    "mlp-tanh": {**_MLP, "hidden": [6], "activation": "tanh"},
    "cnn-relu": {**_CNN, "hidden": [6], "activation": "relu"},
    "cnn-tanh": {**_CNN, "hidden": [], "activation": "tanh"},
}


def pairs(own: Callable[[str, str], bool]) -> pytest.MarkDecorator:
    """Every encoder with every aggregator, all but its own pairs slow."""
    every = [(encoder, aggregator) for encoder in ENCODERS.names() for aggregator in AGGREGATORS.names()]
    marked = [pytest.param(*pair, marks=() if own(*pair) else pytest.mark.slow) for pair in every]
    return pytest.mark.parametrize(("encoder", "aggregator"), marked)


components = pairs(lambda encoder, aggregator: encoder == ENCODER or aggregator == AGGREGATOR)
encoders = pairs(lambda encoder, aggregator: aggregator == AGGREGATOR)
cheap = pairs(lambda encoder, aggregator: aggregator == AGGREGATOR and encoder not in DEAR)


@lru_cache(maxsize=64)
def networks(name: str, models: int = 3, seed: int = 0) -> Stack:
    """Random models of an architecture, biases included, in float64."""
    draw, text = torch.Generator().manual_seed(seed), json.dumps(NODES[name])
    tensors = {
        key: torch.randn(models, *p.shape, generator=draw, dtype=torch.float64) / max(1, p[0].numel()) ** 0.5
        for key, p in build(text).named_parameters()
    }
    return Stack.of(from_architecture(text), tensors)


@lru_cache(maxsize=3)
def composed(graph: str) -> dict[str, object]:
    return compose("pretrain", [f"graph={graph}", "regression.targets=[epoch]"])


def config(encoder: str, aggregator: str, graph: str = "canonical") -> dict[str, object]:
    return {**composed(graph), "encoder": {"name": encoder}, "aggregator": {"name": aggregator}}


def embedder(encoder: str, aggregator: str, graph: str = "canonical") -> Embedder:
    torch.manual_seed(0)
    return build_embedder(config(encoder, aggregator, graph)).eval()


def moved(stack: Stack) -> Stack:
    """A copy of each model, moved by a random element of the whole group that is not the identity."""
    element = sample(stack.graph, len(stack), torch.Generator().manual_seed(1))
    assert all((order != order.sort().values).any() for order in element.orders.values())
    assert not all((scale == 1).all() for scale in element.scales.values())
    return element.apply(stack)


def permuted(stack: Stack) -> Stack:
    element = sample(stack.graph, len(stack), torch.Generator().manual_seed(1))
    ones = {axis: torch.ones_like(scale) for axis, scale in element.scales.items()}
    return GroupElement(element.orders, ones).apply(stack)


def rescaled(stack: Stack) -> Stack:
    element = sample(stack.graph, len(stack), torch.Generator().manual_seed(1))
    same = {axis: order.sort().values for axis, order in element.orders.items()}
    return GroupElement(same, element.scales).apply(stack)


SYMMETRIES: dict[Symmetry, tuple[tuple[str, ...], Callable[[Stack], Stack]]] = {
    "permutation": (tuple(NODES), permuted),
    "positive": (("mlp-relu", "cnn-relu"), rescaled),
    "sign": (("mlp-tanh", "cnn-tanh"), rescaled),
}
"""Networks that have a symmetry, and what moves them by it."""


def change(first: Tensor, second: Tensor) -> float:
    """The largest distance of a model's two embeddings, relative to their length."""
    return ((first - second).norm(dim=1) / second.norm(dim=1)).max().item()


@torch.no_grad()
def change_by(made: Embedder, stack: Stack, *moves: Callable[[Stack], Stack]) -> list[float]:
    """How far each move takes the embeddings, all in one batch."""
    batch = join([stack, *(move(stack) for move in moves)]).to(next(made.parameters()).dtype)
    own, *others = made.embed([batch]).split(len(stack))
    return [change(other, own) for other in others]


def assert_invariant(made: Embedder, stack: Stack, move: Callable[[Stack], Stack]) -> None:
    assert change_by(made.float(), stack, move)[0] < SINGLE
    assert change_by(made.double(), stack, move)[0] < EXACT


def assert_symmetric(made: Embedder, name: str, move: Callable[[Stack], Stack], declared: bool) -> None:
    """Asserts that a move passes where it is declared, and does not, by far, where it is not."""
    if declared:
        return assert_invariant(made, networks(name), move)
    with pytest.raises(AssertionError):
        assert_invariant(made, networks(name), move)
    assert change_by(made, networks(name), move)[0] > 10 * SINGLE


@encoders
@pytest.mark.parametrize("graph", ["canonical", "frobenius"])
def test_embeddings_do_not_change_under_the_whole_group(encoder: str, aggregator: str, graph: str) -> None:
    for name in NODES:
        made = embedder(encoder, aggregator, graph)
        assert_symmetric(made, name, moved, "permutation" in made.encoder.symmetries)


@cheap
@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_raw_weights_pass_under_what_is_declared_and_nothing_else(
    encoder: str, aggregator: str, symmetry: Symmetry
) -> None:
    names, move = SYMMETRIES[symmetry]
    for name in names:
        made = embedder(encoder, aggregator, "raw")
        assert_symmetric(made, name, move, symmetry in made.encoder.symmetries)


@pytest.mark.parametrize("graph", ["canonical", "frobenius"])
def test_statistics_of_layers_stand_beside_the_tokens_and_break_no_symmetry(graph: str) -> None:
    torch.manual_seed(0)
    own = {**config("network_gnn", AGGREGATOR, graph), "encoder": {"name": "network_gnn", "statistics": True}}
    for name in NODES:
        made = build_embedder(own).eval()
        assert_symmetric(made, name, moved, declared=True)
        with torch.no_grad():
            assert torch.pdist(made.embed([networks(name)])).min() > 1e-3
            stack = made.reading(networks(name))
            tokens = made.encoder(stack)
            for place, pair in enumerate(zip(stack.weights, stack.biases, strict=True)):
                assert torch.equal(tokens[:, place, -STATISTICS_DIM:], layer_statistics(*pair))
            made.encoder.statistics = False
            assert torch.equal(tokens[:, :, :-STATISTICS_DIM], made.encoder(stack))


@pytest.mark.parametrize("aggregator", AGGREGATORS.names())
def test_the_control_that_flattens_does_not_pass_under_permutation(aggregator: str) -> None:
    made = embedder("raw", aggregator)
    assert made.encoder.symmetries == frozenset()
    for name in NODES:
        assert_symmetric(made, name, permuted, declared=False)


@components
@torch.no_grad()
def test_a_model_has_one_embedding_alone_and_in_any_batch(encoder: str, aggregator: str) -> None:
    made = embedder(encoder, aggregator).double()
    stacks = [networks(name, seed=seed) for seed, name in enumerate(reversed(NODES))]
    alone = torch.cat([made.embed([stack.select(slice(i, i + 1))]) for stack in stacks for i in range(len(stack))])
    assert change(torch.cat([made.embed([stack]) for stack in stacks]), alone) < EXACT
    assert change(made.embed(stacks), alone) < EXACT
    assert change(made.embed(stacks[::-1]), torch.cat(alone.split(3)[::-1])) < EXACT
    assert len(alone) == 12 and torch.pdist(F.normalize(alone)).min() > SINGLE, "different models differ"


@components
def test_gradients_reach_every_parameter(encoder: str, aggregator: str) -> None:
    made = embedder(encoder, aggregator)
    batch = [networks(name).to(torch.float32) for name in NODES]
    embeddings = made.embed(batch)
    loss = NTXent()(pairs_of(*made.project(embeddings).chunk(2))) + made.predict(embeddings).square().mean()
    loss.backward()
    # Of one token alone, attention chooses that one whatever its gate says.
    alone = made.encoder(made.reading(batch[0])).shape[1] == 1
    still = [name for name, p in made.named_parameters() if p.grad is None or not p.grad.any()]
    assert [name for name in still if not alone or "gate_nn" not in name] == []
    assert all(p.grad.isfinite().all() for p in made.parameters())


@components
@torch.no_grad()
def test_an_embedder_comes_back_as_it_was(encoder: str, aggregator: str, tmp_path: Path) -> None:
    made = embedder(encoder, aggregator)
    identity = save_producer(tmp_path, made, config(encoder, aggregator), {})
    torch.manual_seed(1)
    loaded, found = load_producer(tmp_path)
    batch = [networks(name).to(torch.float32) for name in NODES]
    assert found == identity and torch.equal(loaded.embed(batch), made.embed(batch))
    assert not torch.equal(build_embedder(config(encoder, aggregator)).eval().embed(batch), made.embed(batch))


def trained(made: Embedder, stacks: list[Stack], steps: int, until: float = 0.0) -> list[float]:
    """The losses of some steps of NT-Xent between noisy views, at most until they fall to a share of the first.

    Without a warm-up, a transformer on top of another collapses for good unless gradients are clipped.
    """
    optimizer, loss = torch.optim.AdamW(made.parameters(), lr=1e-3), NTXent()
    losses: list[float] = []
    while len(losses) < steps and (not losses or losses[-1] > until * losses[0]):
        value = loss(pairs_of(*(made.project(made.embed(noisy(stacks, 2 * len(losses) + side))) for side in range(2))))
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        optimizer.step()
        losses.append(value.item())
    return losses


def noisy(stacks: list[Stack], seed: int) -> list[Stack]:
    return [Noise(0.03).transform(stack, torch.Generator().manual_seed(seed)) for stack in stacks]


@components
def test_eight_models_are_overfitted(encoder: str, aggregator: str) -> None:
    made = embedder(encoder, aggregator)
    stacks = [networks(name, 4).to(torch.float32) for name in ("mlp-relu", "cnn-relu")]
    losses = trained(made, stacks, 120, until=0.3)
    assert losses[-1] <= 0.3 * losses[0]
    with torch.no_grad():
        first, second = (F.normalize(made.embed(noisy(stacks, seed)), dim=1) for seed in (1000, 1001))
    assert (first @ second.T).argmax(1).tolist() == list(range(8))


@components
def test_embeddings_react_to_every_layer(encoder: str, aggregator: str) -> None:
    assert_reacts(embedder(encoder, aggregator), tuple(NODES))


@cheap
def test_embeddings_still_react_to_every_layer_after_training(encoder: str, aggregator: str) -> None:
    made, names = embedder(encoder, aggregator), ("mlp-tanh", "cnn-relu")
    trained(made, [networks(name, 4, seed=5).to(torch.float32) for name in names], 5)
    assert_reacts(made, names)


def assert_reacts(made: Embedder, names: tuple[str, ...]) -> None:
    """Asserts that changing one tensor of each layer in turn moves the embedding."""
    for name in names:
        stack = networks(name)
        changes = [(kind, place) for kind in ("weights", "biases") for place in range(len(stack.weights))]
        noise, *found = change_by(made, stack, moved, *(partial(exchanged, kind=k, place=p) for k, p in changes))
        least = max(SINGLE, 10 * noise) if "permutation" in made.encoder.symmetries else SINGLE
        assert all(moving > least for moving in found), (name, dict(zip(changes, found, strict=True)))


def exchanged(stack: Stack, kind: str, place: int) -> Stack:
    """Models of which each has one tensor of its neighbour."""
    tensors = list(getattr(stack, kind))
    tensors[place] = tensors[place].roll(1, 0)
    return replace(stack, **{kind: tuple(tensors)})


def without(stack: Stack, *places: int) -> Stack:
    """A copy whose layers at these places are zero."""
    weights = [0 * w if place in places else w for place, w in enumerate(stack.weights)]
    biases = [0 * b if place in places else b for place, b in enumerate(stack.biases)]
    return replace(stack, weights=tuple(weights), biases=tuple(biases))


def damaged(stack: Stack) -> Stack:
    """Models without one layer each, without any, without hidden neurons, and whole ones."""
    layers = range(len(stack.graph.layers))
    erased = Erasing(0.5).transform(stack, torch.Generator().manual_seed(0))
    return join([*(without(stack, place) for place in layers), without(stack, *layers), erased, stack])


@cheap
@pytest.mark.parametrize("graph", ["canonical", "frobenius", "raw"])
def test_zero_layers_and_erased_neurons_are_embedded(encoder: str, aggregator: str, graph: str) -> None:
    made = embedder(encoder, aggregator, graph)
    batch = [damaged(networks(name)).to(torch.float32).map(lambda t: t.requires_grad_()) for name in NODES]
    embeddings = made.embed(batch)
    assert embeddings.isfinite().all()
    made.project(embeddings).square().mean().backward()
    inputs = [tensor for stack in batch for tensor in (*stack.weights, *stack.biases)]
    assert all(tensor.grad.isfinite().all() for tensor in (*made.parameters(), *inputs) if tensor.grad is not None)


@cheap
def test_half_precision_gives_nearly_the_same(encoder: str, aggregator: str) -> None:
    made = embedder(encoder, aggregator)
    batch = [damaged(networks(name)).to(torch.float32) for name in NODES]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = made.embed(batch)
        loss = NTXent()(pairs_of(*made.project(embeddings).chunk(2)))
    loss.backward()
    assert all(p.grad.isfinite().all() for p in made.parameters() if p.grad is not None)
    assert F.cosine_similarity(embeddings.float(), made.embed(batch), dim=1).min() > 0.99


class Wired(nn.Module):
    """Batch normalisation, a grouped convolution on a residual stream, a block of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 16, 3, bias=False), nn.BatchNorm2d(16)
        self.inner = nn.Conv2d(16, 16, 3, padding=1, groups=2)
        self.attend_norm, self.attend = nn.LayerNorm(16), nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.stem(x)).relu()
        h = (h + self.inner(h).relu()).flatten(2).mT
        read = self.attend_norm(h)
        return self.head((h + self.attend(read, read, read, need_weights=False)[0]).mean(1))


@lru_cache(maxsize=1)
def wired() -> tuple[SymmetryGroup, WeightGraph]:
    group = derive(Wired().eval(), torch.zeros(2, 2, 5, 5))
    return group, from_group(group)


def wired_models(models: int) -> list[dict[str, Tensor]]:
    """State dicts with random numbers in every tensor."""
    draw, (group, _) = torch.Generator().manual_seed(0), wired()
    found = [
        {name: torch.randn(shape, generator=draw, dtype=torch.float64) for name, shape in group.shapes.items()}
        for _ in range(models)
    ]
    return [{name: tensor.abs() + 0.5 if "var" in name else tensor for name, tensor in m.items()} for m in found]


def embedded(made: Embedder, models: list[dict[str, Tensor]]) -> Tensor:
    return made.embed([made.reading.of_models(*wired(), models, torch.float64)])


@cheap
@torch.no_grad()
def test_a_network_of_any_wiring_is_embedded_up_to_its_group(encoder: str, aggregator: str) -> None:
    made, models = embedder(encoder, aggregator).double(), wired_models(3)
    own = embedded(made, models)
    assert own.isfinite().all()
    assert change(torch.cat([embedded(made, [model]) for model in models]), own) < EXACT
    group, _ = wired()
    element = group.sample(torch.Generator().manual_seed(1), general=False)
    assert group.moved(element) > 0.5
    apart = change(embedded(made, [element.apply(model) for model in models]), own)
    assert apart < 100 * EXACT if "permutation" in made.encoder.symmetries else apart > 10 * SINGLE


@cheap
@torch.no_grad()
def test_embeddings_react_to_every_tensor_of_a_network_of_any_wiring(encoder: str, aggregator: str) -> None:
    made, (one, other) = embedder(encoder, aggregator).double(), wired_models(2)
    own, *found = embedded(made, [one, *({**one, name: other[name]} for name in one)]).split(1)
    assert all(change(changed, own) > 0.1 * SINGLE for changed in found), [change(changed, own) for changed in found]
