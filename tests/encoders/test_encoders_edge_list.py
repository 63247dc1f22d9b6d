"""GraphSAGE, GAT and Geom-GCN give the numbers of plain loops over edges, on any weight graph and in both readings."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from peace.encoders import ENCODERS, LayerEncoder
from peace.encoders.edge_list import EdgeListEncoder
from peace.encoders.gat import EdgeAttention
from peace.encoders.geom_gcn import GeometricConv
from peace.encoders.graphsage import WeightedSAGE
from peace.encoders.positions import grid_positions
from peace.errors import InputError
from peace.graph.assembly import from_group
from peace.graph.derive import derive
from peace.graph.layer_reading import read_layers
from peace.graph.pyg import to_pyg
from peace.graph.reading import Reading
from peace.graph.stack import Stack
from peace.graph.weight_graph import Axis, Layer, WeightGraph

HIDDEN, HEADS = 4, 2
GIVEN = {"graphsage": {}, "gat": {"num_heads": HEADS}, "geom_gcn": {"radius": 0.7}}
READINGS = ("layers", "network")
both = pytest.mark.parametrize("reading", READINGS)
every = pytest.mark.parametrize("name", GIVEN)


def made(name: str, reading: str, num_layers: int = 2) -> EdgeListEncoder:
    torch.manual_seed(0)
    node = {"name": name, "hidden_dim": HIDDEN, "num_layers": num_layers, "reading": reading, **GIVEN[name]}
    return ENCODERS.build(node).double()


def small() -> Stack:
    """Two models: 2 pixels, 4 channels in two groups of three taps, a depthwise layer back to them, 3 classes."""
    axes = (Axis("in", (2,), "input"), Axis("mid", (4,), "hidden", permutable=True), Axis("out", (3,), "output"))
    layers = (
        Layer("a", "conv", 1, 0, (3,), "a.weight", "a.bias", groups=2),
        Layer("b", "conv", 1, 1, (2,), "b.weight", None, groups=4),
        Layer("c", "linear", 2, 1, (), "c.weight", "c.bias"),
    )
    draw = torch.Generator().manual_seed(0)
    weights = (torch.randn(2, *shape, generator=draw).double() for shape in ((4, 1, 3), (4, 1, 2), (3, 4, 1)))
    biases = (torch.randn(2, 4, generator=draw).double(), None, torch.randn(2, 3, generator=draw).double())
    return Stack(WeightGraph(axes, layers), tuple(weights), biases)


class Loops:
    """One model's edges as a list of (sender, receiver, gate vector, 1 / root of the layer's edges there)."""

    def __init__(self, encoder: EdgeListEncoder, stack: Stack, model: int) -> None:
        scale = [weight[model].square().mean().sqrt() for weight in stack.weights]
        rows = [weight[model].square().sum((1, 2)).mean().sqrt() for weight in stack.weights]
        unit = replace(
            stack,
            weights=tuple(w / s for w, s in zip(stack.weights, scale, strict=True)),
            biases=tuple(None if b is None else b / r for b, r in zip(stack.biases, rows, strict=True)),
        )
        self.data: Data = to_pyg(unit, model, encoder.reading)
        self.directions: list[list[tuple[int, int, Tensor, float]]] = []
        self.ends: list[list[tuple[int, int, float, float]]] = []
        layers = self.data.edge_layer.tolist()
        for direction, order in enumerate(([0, 1], [1, 0])):
            pairs = self.data.edge_index[order].T.tolist()
            counts: dict[tuple[int, int], int] = {}
            for layer, (_, receiver) in zip(layers, pairs, strict=True):
                counts[layer, receiver] = counts.get((layer, receiver), 0) + 1
            shares = [counts[layer, receiver] ** -0.5 for layer, (_, receiver) in zip(layers, pairs, strict=True)]
            weights = self.data.edge_attr[:, 0].tolist()
            gates = [
                self._gate(encoder, stack.graph.layers[layer], tap, direction) * weight
                for layer, tap, weight in zip(layers, self.data.edge_tap.tolist(), weights, strict=True)
            ]
            self.directions.append([(*p, g, s) for p, g, s in zip(pairs, gates, shares, strict=True)])
            self.ends.append([(*p, w, s) for p, w, s in zip(pairs, weights, shares, strict=True)])

    @property
    def edges(self) -> list[tuple[int, int, Tensor, float]]:
        return [*self.directions[0], *self.directions[1]]

    def _gate(self, encoder: EdgeListEncoder, layer: Layer, tap: int, direction: int) -> Tensor:
        positions = grid_positions(layer.taps, torch.zeros(0, dtype=torch.float64))
        return encoder.tap_gates(positions)[tap, direction * HIDDEN : (direction + 1) * HIDDEN]

    def start(self, encoder: EdgeListEncoder, graph: WeightGraph) -> tuple[Tensor, list[float]]:
        """First states and the coordinate of each node."""
        rows, places = [], []
        for node in range(self.data.num_nodes):
            features = [self.data.node_bias[node].item()]
            for ends in self.ends:
                own = [(w, s) for _, receiver, w, s in ends if receiver == node]
                features += [sum(w * s for w, s in own), sum(abs(w) * s**2 for w, s in own),
                             sum((w * s) ** 2 for w, s in own)]  # fmt: skip
            state = encoder.start(torch.tensor(features, dtype=torch.float64))
            axis = graph.axes[int(self.data.node_axis[node])]
            if encoder.reading == "network" and axis.role != "hidden":
                codes = encoder.positions[axis.role](grid_positions(axis.shape, state))
                state = state + codes[int(self.data.node_place[node])]
            rows.append(state)
            places.append(math.tanh(features[1] + features[4]))
        return torch.stack(rows), places

    def span(self, node: int) -> tuple[int, int, bool]:
        """What tells the axis of a node, where each layer has its own; what a layer writes follows what it reads."""
        first = self.data.node_axis[node], self.data.node_layer[node], bool((self.data.edge_index[1] == node).any())
        return int(first[0]), int(first[1]), first[2] and int(first[1]) >= 0


def sage(step: WeightedSAGE, x: Tensor, loops: Loops, places: list[float]) -> Tensor:
    heard = torch.zeros_like(x)
    for sender, receiver, gate, share in loops.edges:
        heard[receiver] += gate * share * x[sender]
    return heard @ step.lin_l.weight.T + step.lin_l.bias + x @ step.lin_r.weight.T


def attention(step: EdgeAttention, x: Tensor, loops: Loops, places: list[float]) -> Tensor:
    rows = []
    sent, own = step.lin_l(x), step.lin_r(x)
    for node in range(len(x)):
        edges = [edge for edge in loops.edges if edge[1] == node]
        parts = []
        for head in range(HEADS):
            at = slice(head * HIDDEN // HEADS, (head + 1) * HIDDEN // HEADS)
            hidden = [sent[s, at] + own[node, at] + (step.lin_edge.weight @ gate)[at] for s, _, gate, _ in edges]
            scores = torch.stack([nn.functional.leaky_relu(row, 0.2) @ step.att[0, head] for row in hidden]).exp()
            parts.append(sum(a * sent[e[0], at] for a, e in zip(scores / scores.sum(), edges, strict=True)))
        rows.append(torch.cat(parts) + step.bias)
    return torch.stack(rows)


def geometric(step: GeometricConv, x: Tensor, loops: Loops, places: list[float]) -> Tensor:
    def above(other: float, own: float) -> float:
        return 1 / (1 + math.exp(-(other - own) / 0.7))

    def near(other: float, own: float) -> float:
        return math.exp(-(((other - own) / 0.7) ** 2) / 2)

    rows = []
    for node, own in enumerate(places):
        sums = [torch.zeros(HIDDEN, dtype=torch.float64) for _ in range(6)]
        for direction, edges in enumerate(loops.directions):
            for sender, receiver, gate, share in edges:
                if receiver == node:
                    up, said = above(places[sender], own), gate * share * x[sender]
                    sums[2 * direction] = sums[2 * direction] + (1 - up) * said
                    sums[2 * direction + 1] = sums[2 * direction + 1] + up * said
        fellows = [other for other in range(len(places)) if loops.span(other) == loops.span(node)]
        shares = [0.0, 0.0]
        for mark in torch.linspace(-1, 1, 9).tolist():
            left = [near(places[fellow], mark) for fellow in fellows]
            mean = sum(k * x[fellow] for k, fellow in zip(left, fellows, strict=True)) / sum(left)
            for relation, side in enumerate((1 - above(mark, own), above(mark, own))):
                sums[4 + relation] = sums[4 + relation] + near(mark, own) * side * mean
                shares[relation] += near(mark, own) * side
        rows.append(step.join(torch.cat([*sums[:4], sums[4] / shares[0], sums[5] / shares[1]])))
    return torch.stack(rows)


STEPS: dict[str, Callable[..., Tensor]] = {"graphsage": sage, "gat": attention, "geom_gcn": geometric}


@both
@every
@torch.no_grad()
def test_tokens_are_those_of_plain_loops(name: str, reading: str) -> None:
    encoder, stack = made(name, reading), small()
    found = encoder(stack)
    assert found.shape == (2, 3, encoder.output_dim) == (2, 3, 2 * HIDDEN + 1)
    for model in range(2):
        loops = Loops(encoder, stack, model)
        state, places = loops.start(encoder, stack.graph)
        for norm, step in zip(encoder.norms, encoder.steps, strict=True):
            state = state + STEPS[name](step, norm(state), loops, places).relu()
        for layer, weight in enumerate(stack.weights):
            ends = loops.data.edge_index[:, loops.data.edge_layer == layer]
            means = [state[ends[side].unique()].mean(0) for side in (1, 0)]
            torch.testing.assert_close(found[model, layer], torch.cat([*means, weight[model].norm().log()[None]]))


@every
def test_a_layer_has_the_token_that_it_has_in_its_network(name: str) -> None:
    encoder, stack = made(name, "layers"), small()
    assert isinstance(encoder, LayerEncoder) and encoder.layer_wise
    parts = zip(stack.graph.layers, stack.weights, stack.biases, strict=True)
    torch.testing.assert_close(torch.stack([encoder.token(*part) for part in parts], 1), encoder(stack))
    whole = made(name, "network")
    assert not whole.layer_wise
    with pytest.raises(
        InputError, match=r"reads networks, not layers: got reading=network; set encoder.reading=layers"
    ):
        whole.token(stack.graph.layers[0], stack.weights[0], stack.biases[0])


class Wired(nn.Module):
    """Grouped and depthwise convolutions, a normalisation, a stream that several layers write to, no bias in places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.widen, self.narrow = nn.Conv2d(6, 8, 1, groups=2), nn.Conv2d(8, 6, 1, bias=False)
        self.head = nn.Linear(14, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.depthwise(self.norm(self.stem(x)).relu()).relu()
        wide = self.widen(h).relu()
        return self.head(torch.cat([wide, h + self.narrow(wide)], 1).mean((2, 3)))


def change(first: Tensor, second: Tensor) -> float:
    return ((first - second).norm() / second.norm()).item()


@both
@every
@torch.no_grad()
def test_derived_graphs_are_read_without_regard_to_their_symmetries(name: str, reading: str) -> None:
    module, encoder = Wired().double().eval(), made(name, reading)
    group = derive(module, torch.zeros(1, 2, 7, 7, dtype=torch.float64))
    graph, draw = from_group(group), torch.Generator().manual_seed(1)
    own = {key: torch.rand(shape, generator=draw).double() + 0.1 if "running_var" in key or key == "norm.weight"
           else torch.randn(shape, generator=draw).double() for key, shape in group.shapes.items()}  # fmt: skip
    moved = group.sample(draw).apply(own)
    assert any((moved[key] - own[key]).abs().max() > 0.1 for key in own)
    stack = Reading().of_models(group, graph, [own, moved], torch.float64)
    tokens = encoder(stack)
    assert change(tokens[1], tokens[0]) < 1e-10
    for place, layer in enumerate(graph.layers):
        other = stack.select(slice(0, 1))
        weights = list(other.weights)
        weights[place] = weights[place] + torch.randn(weights[place].shape, generator=draw)
        assert change(encoder(replace(other, weights=tuple(weights))), tokens[:1]) > 1e-4, layer.name


@both
@every
def test_state_dicts_of_unknown_wiring_are_read(name: str, reading: str) -> None:
    draw = torch.Generator().manual_seed(0)
    shapes = {"a.weight": (5, 3, 2, 2), "a.bias": (5,), "norm.weight": (5,), "norm.bias": (5,), "head.weight": (4, 5)}
    tensors = {key: torch.randn(2, *shape, generator=draw).double() for key, shape in shapes.items()}
    encoder, reading_of = made(name, reading), read_layers({key: tensor[0] for key, tensor in tensors.items()})
    tokens = encoder(reading_of.stack(tensors))
    tokens.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())
    assert tokens.shape == (2, len(reading_of.layers), encoder.output_dim) and change(tokens[0], tokens[1]) > 1e-2
    # Nothing there has an identity: both axes of every tensor may be renumbered on their own.
    turned = {key: tensor.flip(1).flip(2) if tensor.ndim > 2 else tensor.flip(1) for key, tensor in tensors.items()}
    assert change(encoder(reading_of.stack(turned)), tokens) < 1e-10


@every
@torch.no_grad()
def test_only_the_network_reading_knows_which_pixel_is_which(name: str) -> None:
    stack = small()
    weights = (stack.weights[0].view(2, 2, 2, 1, 3).flip(1).reshape(2, 4, 1, 3), *stack.weights[1:])
    biases = (stack.biases[0].view(2, 2, 2).flip(1).flatten(1), *stack.biases[1:])
    mirrored = replace(stack, weights=weights, biases=biases)
    for reading, differs in (("layers", False), ("network", True)):
        encoder = made(name, reading)
        assert (change(encoder(mirrored)[:, :1], encoder(stack)[:, :1]) > 1e-3) == differs


def test_heads_divide_the_states() -> None:
    with pytest.raises(InputError, match="the states do not divide into heads: got hidden_dim 6, num_heads 4"):
        ENCODERS.build({"name": "gat", "hidden_dim": 6})
