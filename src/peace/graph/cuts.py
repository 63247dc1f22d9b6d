"""Tensors of a derived group cut into layers between sets of nodes that are alike."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from peace.graph.group import SymmetryGroup
from peace.graph.orbits import mixed, ranks
from peace.graph.part import Part
from peace.graph.wiring import Act


@dataclass(frozen=True)
class Kinds:
    """Kinds of nodes: those that stand in the same tensors, along the same dimensions and equally often.

    Attributes:
        kind: Kind of each node. Shape: [nodes].
        place: Place of each node among those of its kind, in the order in which they first stand in a tensor. Shape:
            [nodes].
        sizes: Number of nodes of each kind. Shape: [kinds].
    """

    kind: np.ndarray
    place: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, group: SymmetryGroup) -> "Kinds":
        """Returns the kinds of a group's nodes."""
        slots, wiring = group.slots, group.wiring
        count = len(wiring.pinned)
        stands = np.zeros(count, dtype=np.uint64)
        with np.errstate(over="ignore"):
            np.add.at(stands, slots.nodes, mixed(slots.label))
        keys = np.stack([stands, *(part.astype(np.uint64) for part in (wiring.named, wiring.pinned))])
        _, kind, sizes = np.unique(keys, axis=1, return_inverse=True, return_counts=True)
        first = np.full(count, len(slots.nodes))
        np.minimum.at(first, slots.nodes, np.arange(len(slots.nodes)))
        order = np.lexsort((first, kind.ravel()))
        place = np.empty(count, dtype=np.int64)
        place[order] = ranks(kind.ravel()[order])
        return cls(kind.ravel(), place, sizes)


@dataclass(frozen=True)
class Cut:
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
class ActingTensor:
    """A tensor as an act sees it: a matrix of places, each of which joins a node that it reads with one that it writes.

    Attributes:
        group: The symmetry group.
        kinds: The kinds of its nodes.
        act: What it does.
    """

    group: SymmetryGroup
    kinds: Kinds
    act: Act

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
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
        ids = self.group.slots.nodes_along[self.act.tensor][dims[0]]
        matrix = (*self.act.out, *self.act.into)
        moved = ids.transpose([*matrix, *(dim for dim in range(ids.ndim) if dim not in matrix)])
        rows = prod(ids.shape[dim] for dim in self.act.out)
        return moved.reshape(rows, -1)

    def cuts(self) -> Iterator[Cut]:
        """Yields the layers."""
        written, read = self.written, self.read
        if (written is None or written.shape[1] == 1) and (read is None or read.shape[0] == 1):
            columns = list(self._along(read, 1))
            for out, rows in self._along(written, 0):
                for number, (into, places) in enumerate(columns):
                    for row in rows.T:
                        yield Cut(out, into, self._part(row, places), number == 0)
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
        kinds = self.kinds.kind[nodes]
        for kind in dict.fromkeys(kinds.tolist()):
            own = np.flatnonzero(kinds == kind)
            by_place = own[np.argsort(self.kinds.place[nodes[own]], kind="stable")]
            yield kind, by_place.reshape(self.kinds.sizes[kind], -1)

    def _sparse(self, written: np.ndarray, read: np.ndarray) -> Iterator[Cut]:
        """Yields layers whose rows read columns of their own."""
        written, read, kind, place = written.ravel(), read.ravel(), self.kinds.kind, self.kinds.place
        seen: set[int] = set()
        for out, into in dict.fromkeys(zip(kind[written].tolist(), kind[read].tolist(), strict=True)):
            own = np.flatnonzero((kind[written] == out) & (kind[read] == into))
            row, column = place[written[own]], place[read[own]]
            n_out, n_in = int(self.kinds.sizes[out]), int(self.kinds.sizes[into])
            rank = ranks(row * n_in + column)
            groups = _groups(row[rank == 0], column[rank == 0], n_out, n_in)
            width = n_in // groups
            pairs = np.full((n_out, width, int(rank.max()) + 1), -1)
            pairs[row, column % width, rank] = own
            part = self._part(np.arange(0), np.zeros((0, 1), dtype=np.int64), pairs)
            yield Cut(out, into, part, out not in seen, groups)
            seen.add(out)


def _groups(row: np.ndarray, column: np.ndarray, n_out: int, n_in: int) -> int:
    """The number of groups that rows and columns fall into in order; 1 where they do not, or not evenly."""
    width = len(row) // n_out
    groups = n_in // width if width and n_in % width == 0 else 1
    even = len(row) == n_out * width and n_out % groups == 0
    return groups if even and np.array_equal(column // width, row // (n_out // groups)) else 1
