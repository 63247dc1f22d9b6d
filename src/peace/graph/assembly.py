"""The weight graph of a derived symmetry group: axes from its nodes, layers from its tensors."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np

from peace.graph.group import SymmetryGroup
from peace.graph.orbits import mixed, ranks
from peace.graph.part import Part
from peace.graph.weight_graph import Axis, Layer, Role, WeightGraph
from peace.graph.wiring import NAMED, Act


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
    axes = _Axes(group)
    layers = tuple(layer for act in group.wiring.acts for layer in _layers(group, axes, act))
    return WeightGraph(tuple(axes.made), layers)


class _Axes:
    """The axes of a graph, made when first asked for.

    Attributes:
        made: All so far.
        kind: Number of each node's kind. Shape: [nodes].
        place: Place of each node among those of its kind. Shape: [nodes].
        sizes: Number of nodes of each kind. Shape: [kinds].
    """

    def __init__(self, group: SymmetryGroup) -> None:
        slots, self.wiring = group.slots, group.wiring
        count = len(self.wiring.pinned)
        stands = np.zeros(count, dtype=np.uint64)
        with np.errstate(over="ignore"):
            np.add.at(stands, slots.nodes, mixed(slots.label))
        keys = np.stack([stands, *(part.astype(np.uint64) for part in (self.wiring.named, self.wiring.pinned))])
        kinds, kind = np.unique(keys, axis=1, return_inverse=True)
        self.kind = kind.ravel()
        # Nodes keep the order in which they first stand in a tensor.
        first = np.full(count, len(slots.nodes))
        np.minimum.at(first, slots.nodes, np.arange(len(slots.nodes)))
        order = np.lexsort((first, self.kind))
        self.place = np.empty(count, dtype=np.int64)
        self.place[order] = ranks(self.kind[order])
        self.sizes = np.bincount(self.kind, minlength=kinds.shape[1])
        self.made: list[Axis] = []
        self._found: dict[tuple, int] = {}

    def of(self, kind: int, asked: Role, name: str) -> int:
        """Returns the axis of nodes of a kind, as they are read (`input`) or written (`output`)."""
        node = int(np.argmax(self.kind == kind))
        bits = int(self.wiring.named[node])
        read, written = bits & (NAMED["input"] | NAMED["position"]), bits & NAMED["output"]
        role: Role = asked if read and written else "input" if read else "output" if written else "hidden"
        return self.own((kind, role), Axis(name, (int(self.sizes[kind]),), role, not self.wiring.pinned[node]))

    def own(self, key: tuple, axis: Axis) -> int:
        """Returns the axis with a key, which is the given one if there was none."""
        if key not in self._found:
            others = sum(made.name.partition("#")[0] == axis.name for made in self.made)
            self._found[key] = len(self.made)
            self.made.append(replace(axis, name=f"{axis.name}#{others + 1}") if others else axis)
        return self._found[key]


@dataclass(frozen=True)
class _Cut:
    """One layer of a tensor that is cut into several.

    Attributes:
        written: Kind of the nodes that it writes, -1 where they have no name.
        read: Likewise of those that it reads.
        part: Its numbers.
        first: Whether no layer before it writes the same rows, so that the bias is its own.
        groups: As for a layer.
    """

    written: int
    read: int
    part: Part
    first: bool
    groups: int = 1


@dataclass(frozen=True)
class _Tensor:
    """A tensor as an act sees it: a matrix of places, each of which joins a node that it reads with one that it writes.

    Attributes:
        group: The symmetry group.
        axes: The axes.
        act: What it does.
    """

    group: SymmetryGroup
    axes: _Axes
    act: Act

    @property
    def shape(self) -> tuple[int, ...]:
        return self.group.shapes[self.act.tensor]

    @cached_property
    def sides(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        return prod(self.shape[dim] for dim in self.act.out), prod(self.shape[dim] for dim in self.act.into)

    @cached_property
    def written(self) -> np.ndarray | None:
        """Node of each row, or of each row and column, or None where nodes have no name. Shape: [O, 1 or I]."""
        return self._nodes(self.act.out)

    @cached_property
    def read(self) -> np.ndarray | None:
        """Likewise of each column. Shape: [1 or O, I]."""
        if self.act.channels is not None:
            return np.repeat(self.act.channels, self.sides[0] // len(self.act.channels))[:, None]
        return self._nodes(self.act.into)

    def _nodes(self, dims: tuple[int, ...]) -> np.ndarray | None:
        if len(dims) != 1:
            return None
        ids = self.group.nodes_along[self.act.tensor][dims[0]]
        matrix = [dim for dim in (*self.act.out, *self.act.into)]
        moved = ids.transpose([*matrix, *(dim for dim in range(ids.ndim) if dim not in matrix)])
        rows = prod(ids.shape[dim] for dim in self.act.out)
        return moved.reshape(rows, -1)

    def cuts(self) -> Iterator[_Cut]:
        """Yields the layers."""
        written, read = self.written, self.read
        if (written is None or written.shape[1] == 1) and (read is None or read.shape[0] == 1):
            columns = list(self._along(read, 1))
            for out, rows in self._along(written, 0):
                for number, (into, places) in enumerate(columns):
                    for row in rows.T:
                        yield _Cut(out, into, self._part(row, places), number == 0)
        else:
            yield from self._sparse(*np.broadcast_arrays(written, read))

    def _part(self, rows: np.ndarray, columns: np.ndarray, pairs: np.ndarray | None = None) -> Part:
        return Part(self.act.tensor, self.shape, self.act.out, self.act.into, rows, columns, pairs)

    def _along(self, nodes: np.ndarray | None, side: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yields the kinds of nodes along a side, and where they stand. Shape: [n, k]."""
        if nodes is None:
            yield -1, np.arange(self.sides[side])[:, None]
            return
        nodes = nodes.ravel()
        kinds = self.axes.kind[nodes]
        for kind in dict.fromkeys(kinds.tolist()):
            own = np.flatnonzero(kinds == kind)
            by_place = own[np.argsort(self.axes.place[nodes[own]], kind="stable")]
            yield kind, by_place.reshape(self.axes.sizes[kind], -1)

    def _sparse(self, written: np.ndarray, read: np.ndarray) -> Iterator[_Cut]:
        """Yields layers whose rows read columns of their own."""
        written, read, kind, place = written.ravel(), read.ravel(), self.axes.kind, self.axes.place
        seen: set[int] = set()
        for out, into in dict.fromkeys(zip(kind[written].tolist(), kind[read].tolist(), strict=True)):
            own = np.flatnonzero((kind[written] == out) & (kind[read] == into))
            row, column = place[written[own]], place[read[own]]
            n_out, n_in = int(self.axes.sizes[out]), int(self.axes.sizes[into])
            rank = ranks(row * n_in + column)
            groups = _groups(row[rank == 0], column[rank == 0], n_out, n_in)
            width = n_in // groups
            pairs = np.full((n_out, width, int(rank.max()) + 1), -1)
            pairs[row, column % width, rank] = own
            part = self._part(np.arange(0), np.zeros((0, 1), dtype=np.int64), pairs)
            yield _Cut(out, into, part, out not in seen, groups)
            seen.add(out)


def _groups(row: np.ndarray, column: np.ndarray, n_out: int, n_in: int) -> int:
    """The number of groups that rows and columns fall into in order; 1 where they do not, or not evenly."""
    width = len(row) // n_out
    groups = n_in // width if width and n_in % width == 0 else 1
    even = len(row) == n_out * width and n_out % groups == 0
    return groups if even and np.array_equal(column // width, row // (n_out // groups)) else 1


def _layers(group: SymmetryGroup, axes: _Axes, act: Act) -> Iterator[Layer]:
    tensor = _Tensor(group, axes, act)
    for cut in tensor.cuts():
        into, out = (
            axes.of(kind, role, act.tensor) if kind >= 0 else _nameless(axes, act, role, size)
            for kind, role, size in ((cut.read, "input", tensor.sides[1]), (cut.written, "output", tensor.sides[0]))
        )
        name, bias = act.tensor.rpartition(".")[0], act.bias if cut.first else None
        own = None if bias is None else _bias(group, axes, bias, cut)
        yield Layer(name, act.kind, out, into, cut.part.taps, act.tensor, bias, cut.groups, cut.part, own)


def _nameless(axes: _Axes, act: Act, role: Role, size: int) -> int:
    """The axis of one node that has no name, or of nodes along several dimensions, which only one tensor has."""
    if size == 1:
        return axes.own((role,), Axis(f"one {role}", (1,), role))
    return axes.own((act.tensor, act.out), Axis(act.tensor, (size,), "hidden", True))


def _bias(group: SymmetryGroup, axes: _Axes, name: str, cut: _Cut) -> Part:
    labels, shape = group.nodes_along[name], group.shapes[name]
    rows = cut.part.rows
    if cut.part.pairs is not None:
        nodes = next(iter(labels.values())).ravel()
        own = np.flatnonzero(axes.kind[nodes] == cut.written)
        rows = own[np.argsort(axes.place[nodes[own]], kind="stable")]
    return Part(name, shape, tuple(labels), (), rows, np.zeros((1, 1), dtype=np.int64))
