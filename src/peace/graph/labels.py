"""What a symmetry does to the tensors of a running network: labels on values, and the relations that tie them.

Every place along a labelled dimension of a tensor holds an *entry*. An entry has a node, which says how the place is
renumbered, and a scale, which says what it is multiplied by. Operations relate entries to each other in a `Ledger`;
nothing is decided before the whole network has run.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Ids = np.ndarray
"""Entries of a label, int64: as many dimensions as the value; 1 along those that the label does not depend on."""

KINDS = ("positive", "sign")
"""The kinds of scales."""

Constant = Literal["zero", "uniform", "varying"]


@dataclass(frozen=True)
class Value:
    """What is known about one tensor while a network runs.

    Attributes:
        shape: Its shape.
        labels: Independent labels, no two of which extend along the same dimension. What no label extends along does
            not change under any symmetry, place by place.
        constant: Set where the tensor depends neither on parameters nor on inputs: all zero, all equal or anything.
        origin: What holds unlabelled dimensions fixed: `input`, or the operation that did.
        leaf: The parameter that it is, or was before it was moved.
        parts: Of a stack, what was stacked along its dimension `dim`: their labels are only tied when something else
            than one of them is asked for.
        dim: That dimension.
        even: Dimensions along which it was expanded, so that it does not vary along them.
    """

    shape: tuple[int, ...]
    labels: tuple[Ids, ...] = ()
    constant: Constant | None = None
    origin: str = "input"
    leaf: str | None = None
    parts: tuple["Value", ...] = ()
    dim: int = 0
    even: frozenset[int] = frozenset()

    def varies(self, dims: Iterable[int]) -> bool:
        """Returns whether it may hold different numbers along some dimension."""
        return any(self.shape[dim] > 1 and dim not in self.even for dim in dims)

    def along(self, dim: int) -> Ids | None:
        """Returns the label that extends along a dimension, if any."""
        return next((ids for ids in self.labels if ids.shape[dim] > 1), None)

    def without(self, gone: Iterable[Ids]) -> "Value":
        """Returns the value without some labels, which were pinned."""
        names = {id(ids) for ids in gone}
        return replace(self, labels=tuple(ids for ids in self.labels if id(ids) not in names))

    def spread(self, ndim: int) -> "Value":
        """Returns the value with leading dimensions of size 1, as broadcasting adds them."""
        lead = (1,) * (ndim - len(self.shape))
        labels = tuple(ids.reshape(lead + ids.shape) for ids in self.labels)
        even = frozenset(dim + len(lead) for dim in self.even)
        return replace(self, shape=lead + self.shape, labels=labels, even=even)


def support(ids: Ids) -> tuple[int, ...]:
    """Returns the dimensions that a label extends along."""
    return tuple(dim for dim, size in enumerate(ids.shape) if size > 1)


@dataclass
class Pin:
    """Entries whose nodes may not move, and why: `input`, `output`, `position`, `kernel` or an operation."""

    entries: Ids
    reason: str
    module: str


@dataclass
class Use:
    """A parameter that acted as the weight of a layer.

    Attributes:
        weight: Its name.
        kind: `linear`, `conv`, `grouped`, `embedding` or `norm`.
        bias: What was added to the result.
        read: Its own entries that were read over; where each group of a convolution reads a single channel, so that it
            has none, those of the channels.
        written: Its own entries that were written.
        at: How many parameters had been asked for by then.
    """

    weight: str
    kind: str
    bias: str | None
    read: Ids
    written: Ids
    at: int = 0


@dataclass
class Ledger:
    """All that a run demands of the entries.

    Attributes:
        size: Number of entries.
        leaves: The parameters: name -> label of each dimension by dimension.
        shapes: Their shapes.
        same_node: Pairs of arrays of entries that share nodes.
        same_scale: Likewise for scales.
        opposite_scale: Pairs of arrays of entries whose scales multiply to 1.
        products: Triples of arrays: the first's scale is the product of the others'.
        fixed_scale: Per kind of scale, entries whose scale is 1.
        pins: Entries whose nodes may not move.
        marks: Entries, and marks that nodes must share to be exchanged.
        children: Pairs of arrays: entries and the block that each belongs to.
        movements: Source entries, and which of them each place of the result takes.
        gated: Entries multiplied place by place with something that varies, which no linear map of nodes survives.
        uses: Parameters that acted as weights.
        asked: How often each parameter was an operation's argument, in the order in which they were first.
        regrouped: Parameters with entries of each group's own, and those that they stand for.
        operation: Name of the operation that is running.
        module: Path of the module that is running.
    """

    size: int = 0
    leaves: dict[str, dict[int, Ids]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    same_node: list[tuple[Ids, Ids]] = field(default_factory=list)
    same_scale: list[tuple[Ids, Ids]] = field(default_factory=list)
    opposite_scale: list[tuple[Ids, Ids]] = field(default_factory=list)
    products: list[tuple[Ids, Ids, Ids]] = field(default_factory=list)
    fixed_scale: dict[str, list[Ids]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    pins: list[Pin] = field(default_factory=list)
    marks: list[tuple[Ids, np.ndarray]] = field(default_factory=list)
    children: list[tuple[Ids, Ids]] = field(default_factory=list)
    movements: list[tuple[Ids, Ids]] = field(default_factory=list)
    gated: list[Ids] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    regrouped: dict[str, tuple[Ids, Ids]] = field(default_factory=dict)
    operation: str = ""
    module: str = ""

    def fresh(self, shape: tuple[int, ...]) -> Ids:
        """Returns new entries of which nothing is known."""
        count = int(np.prod(shape))
        self.size += count
        return np.arange(self.size - count, self.size).reshape(shape)

    def leaf(self, name: str, shape: tuple[int, ...]) -> Value:
        """Returns a parameter, each of whose dimensions has entries of its own."""
        labels = {}
        for dim, size in enumerate(shape):
            if size > 1:
                labels[dim] = self.fresh((1,) * dim + (size,) + (1,) * (len(shape) - dim - 1))
        self.leaves[name], self.shapes[name] = labels, shape
        return Value(shape, tuple(labels.values()), leaf=name)

    def used(self, weight: Value, kind: str, bias: Value | None, read: Ids | None, written: Ids | None) -> None:
        """Remembers that a parameter acted as a weight; what is no parameter is passed over."""
        if weight.leaf is not None:
            none = np.zeros(0, dtype=np.int64)
            found = (none if ids is None else ids.ravel() for ids in (read, written))
            name = bias.leaf if bias is not None else None
            self.uses.append(Use(weight.leaf, kind, name, *found, len(self.asked)))

    def ask(self, leaf: str) -> None:
        """Counts an operation that has a parameter for an argument."""
        self.asked[leaf] += 1
        if leaf in self.regrouped:
            # Whatever asks now sees the entries that all groups share.
            self.tie(*self.regrouped.pop(leaf))

    def per_group(self, weight: Value, groups: int) -> Ids | None:
        """Returns entries of a grouped convolution's input channels, each group's its own. Shape: [groups, n_in].

        They take the place of the parameter's entries along dimension 1, which all groups share. None where the
        parameter has been used before, or is no longer as it was stored.
        """
        if weight.leaf is None or self.asked[weight.leaf] > 1 or self.shapes[weight.leaf] != weight.shape:
            return None
        n_out, n_in = weight.shape[:2]
        own = self.fresh((groups, n_in))
        rows = np.repeat(own, n_out // groups, axis=0)
        shared = weight.along(1)
        if shared is not None:
            self.regrouped[weight.leaf] = (own, shared.reshape(1, n_in))
        self.leaves[weight.leaf][1] = rows.reshape(n_out, n_in, *[1] * (len(weight.shape) - 2))
        return own

    def tie(self, first: Ids, second: Ids, scale: Literal["same", "opposite", "free"] = "same") -> None:
        """Gives entries the same nodes, and related scales; arrays are broadcast."""
        first, second = (ids.ravel() for ids in np.broadcast_arrays(first, second))
        # What is its own opposite has the scale 1, so that this tie says something.
        if scale != "opposite" and np.array_equal(first, second):
            return
        self.same_node.append((first, second))
        if scale != "free":
            (self.same_scale if scale == "same" else self.opposite_scale).append((first, second))

    def product(self, result: Ids, first: Ids, second: Ids) -> None:
        """Makes the scale of `result` the product of the others'; arrays are broadcast."""
        self.products.append(tuple(ids.ravel() for ids in np.broadcast_arrays(result, first, second)))

    def belong(self, entries: Ids, blocks: Ids) -> None:
        """Makes entries members of blocks, which can only move as a whole; arrays are broadcast."""
        entries, blocks = np.broadcast_arrays(entries, blocks)
        self.children.append((entries.ravel(), blocks.ravel()))

    def fix_scale(self, ids: Ids, kinds: Iterable[str] = KINDS) -> None:
        """Makes scales 1."""
        for kind in kinds:
            self.fixed_scale[kind].append(ids.ravel())

    def pin(self, ids: Ids, reason: str) -> None:
        """Lets entries neither move nor scale."""
        self.pins.append(Pin(ids.ravel(), reason, self.module))
        self.fix_scale(ids)

    def hold(self, ids: Ids, reason: str) -> None:
        """Lets entries scale, but not move."""
        self.pins.append(Pin(ids.ravel(), reason, self.module))

    def mark(self, ids: Ids, dims: Iterable[int]) -> None:
        """Lets entries only be exchanged with such as have the same place along some dimensions."""
        key = np.zeros(ids.shape, dtype=np.int64)
        for dim in dims:
            place = np.arange(ids.shape[dim]).reshape([-1 if k == dim else 1 for k in range(ids.ndim)])
            key = key * ids.shape[dim] + place
        self.marks.append((ids.ravel(), key.ravel()))

    def collapse(self, ids: Ids, dims: Iterable[int]) -> Ids:
        """Returns a label that no longer depends on some dimensions, once all along them are tied."""
        for dim in dims:
            if ids.shape[dim] > 1:
                first = ids.take([0], axis=dim)
                self.tie(ids, first)
                ids = first
        return ids

    def unused(self) -> Iterator[Ids]:
        """Yields labels of parameters that nothing was demanded of: they are not part of what the module computes."""
        related = np.zeros(self.size, dtype=bool)
        for group in (self.same_node, self.same_scale, self.opposite_scale, self.products, self.children):
            for arrays in group:
                for ids in arrays:
                    related[ids] = True
        for kind in self.fixed_scale.values():
            for ids in kind:
                related[ids] = True
        for labels in self.leaves.values():
            for ids in labels.values():
                if not related[ids].any():
                    yield ids

    def blocks(self, ids: Ids, dims: Iterable[int]) -> Ids:
        """Returns a label of the blocks that remain when dimensions are summed over; equal rows are one block."""
        dims = [dim for dim in dims if ids.shape[dim] > 1]
        kept = [dim for dim in support(ids) if dim not in dims]
        rows = np.transpose(ids, [*kept, *[dim for dim in range(ids.ndim) if dim not in kept]])
        rows = rows.reshape(int(np.prod([ids.shape[dim] for dim in kept])), -1)
        _, row = np.unique(rows, axis=0, return_inverse=True)
        blocks = self.fresh((int(row.max()) + 1,))[row.ravel()]
        blocks = blocks.reshape([ids.shape[dim] if dim in kept else 1 for dim in range(ids.ndim)])
        self.belong(ids, blocks)
        return blocks

    def moved(self, ids: Ids, source: Ids) -> Ids:
        """Returns the entries that come to stand where `source`, places in the flattened label, says."""
        flat = ids.ravel()
        if source.size != flat.size or not np.array_equal(source.ravel(), np.arange(flat.size)):
            self.movements.append((flat, source.ravel()))
        return flat[source]


def components(size: int, edges: np.ndarray) -> tuple[int, np.ndarray]:
    """Returns the number of connected components of a graph and each node's. Shapes: [2, edges] -> [size]."""
    graph = coo_matrix((np.ones(edges.shape[1], dtype=bool), (edges[0], edges[1])), shape=(size, size))
    return connected_components(graph, directed=False)
