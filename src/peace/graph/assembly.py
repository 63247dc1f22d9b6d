"""The weight graph of a derived symmetry group: axes from its nodes, layers from its tensors."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from peace.graph.cuts import ActingTensor, Cut, Kinds
from peace.graph.group import SymmetryGroup
from peace.graph.part import Part
from peace.graph.weight_graph import Axis, Layer, Role, WeightGraph
from peace.graph.wiring import NAMED, Act, Wiring


def from_group(group: SymmetryGroup) -> WeightGraph:
    """Returns the weight graph of a derived group.

    Nodes that stand in the same tensors, along the same dimensions and equally often, are one axis. A tensor whose rows
    or columns lie on several axes (fused q, k and v, a layer after a concatenation) becomes one layer for each two of
    them, so that all layers that touch an axis share its nodes. Several rows of one node (the gates of a recurrent
    layer, q and k) are layers of their own, several columns (positions after a flatten) taps.

    Vectors (normalisations, tokens, layer scales, biases that no layer adds) are read from an axis of one node, as is
    whatever reads a single channel. Nodes that are both inputs and outputs, such as the words of an embedding that is
    also the head, are one axis as they are read and another as they are written.

    No axis has a scaling: bring the tensors into the group's canonical form first, which also makes it immaterial that
    keys have the inverse scale of the queries whose axis they share.
    """
    axes = _Axes(group.wiring, Kinds.of(group))
    layers = tuple(layer for act in group.wiring.acts for layer in _layers(group, axes, act))
    return WeightGraph(tuple(axes.made), layers)


class _Axes:
    """The axes of a graph, made when first asked for."""

    def __init__(self, wiring: Wiring, kinds: Kinds) -> None:
        self.wiring, self.kinds = wiring, kinds
        self.made: list[Axis] = []
        self._found: dict[tuple, int] = {}

    def of(self, kind: int, asked: Role, name: str) -> int:
        """Returns the axis of nodes of a kind, as they are read (`input`) or written (`output`)."""
        node = int(np.argmax(self.kinds.kind == kind))
        bits = int(self.wiring.named[node])
        read, written = bits & (NAMED["input"] | NAMED["position"]), bits & NAMED["output"]
        role: Role = asked if read and written else "input" if read else "output" if written else "hidden"
        return self.own((kind, role), Axis(name, (int(self.kinds.sizes[kind]),), role, not self.wiring.pinned[node]))

    def own(self, key: tuple, axis: Axis) -> int:
        """Returns the axis with a key, which is the given one if there was none."""
        if key not in self._found:
            others = sum(made.name.partition("#")[0] == axis.name for made in self.made)
            self._found[key] = len(self.made)
            self.made.append(replace(axis, name=f"{axis.name}#{others + 1}") if others else axis)
        return self._found[key]


def _layers(group: SymmetryGroup, axes: _Axes, act: Act) -> Iterator[Layer]:
    tensor = ActingTensor(group, axes.kinds, act)
    for cut in tensor.cuts():
        into, out = (
            axes.of(kind, role, act.tensor) if kind >= 0 else _nameless(axes, act, role, size)
            for kind, role, size in ((cut.read, "input", tensor.sides[1]), (cut.written, "output", tensor.sides[0]))
        )
        name, bias = act.tensor.rpartition(".")[0], act.bias if cut.first else None
        own = None if bias is None else _bias(group, axes.kinds, bias, cut)
        yield Layer(name, act.kind, out, into, cut.part.taps, act.tensor, bias, cut.groups, cut.part, own)


def _nameless(axes: _Axes, act: Act, role: Role, size: int) -> int:
    """The axis of one node that has no name, or of nodes along several dimensions, which only one tensor has."""
    if size == 1:
        return axes.own((role,), Axis(f"one {role}", (1,), role))
    return axes.own((act.tensor, act.out), Axis(act.tensor, (size,), "hidden", True))


def _bias(group: SymmetryGroup, kinds: Kinds, name: str, cut: Cut) -> Part:
    """Where a bias has the numbers of the nodes that a layer writes."""
    labels, shape = group.slots.nodes_along.get(name, {}), group.shapes[name]
    rows = cut.part.rows
    if cut.part.pairs is not None:
        nodes = next(iter(labels.values())).ravel()
        own = np.flatnonzero(kinds.kind[nodes] == cut.written)
        rows = own[np.argsort(kinds.place[nodes[own]], kind="stable")]
    return Part(name, shape, tuple(labels), (), rows, np.zeros((1, 1), dtype=np.int64))
