"""Derives the symmetry group of any module by running it once on tensors without memory."""

import warnings
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from peace.errors import InputError
from peace.graph import orbits, scales
from peace.graph.group import General, GroupAxis, Pinned, Role, Scaling, SymmetryGroup
from peace.graph.labels import KINDS, Ledger
from peace.graph.orbits import Nodes
from peace.graph.scales import Scales
from peace.graph.shadow import Shadow
from peace.graph.slots import Slots, several
from peace.graph.tracer import trace
from peace.graph.wiring import wired

_REASONS = ("input", "output", "position", "kernel")
_SCALINGS: tuple[Scaling, ...] = ("none", "sign", "positive", "nonzero")


def derive(module: nn.Module, *inputs: Any, **named: Any) -> SymmetryGroup:
    """Returns the symmetry group of a module in eval mode.

    The module is run once on the meta device: shapes alone, no memory, no numbers. Each operation says what it demands
    of the axes of its tensors, and what all of them together leave free is the group. What is not understood pins the
    axes that it touches and is listed in `SymmetryGroup.pinned`.

    Args:
        module: Any module, on any device; it is left as it was.
        *inputs: Example inputs, of any device; only their shapes and types count.
        **named: Example inputs by name.

    Raises:
        InputError: The module cannot be run on such inputs without numbers.
    """
    ledger, names = run(module, inputs, named)
    nodes = orbits.solve(ledger)
    slots = Slots.of(ledger.leaves, nodes.of_entries)
    found = {kind: _gaugeable(ledger, slots, kind) for kind in KINDS}
    generals = _generals(ledger, slots, nodes, found)
    axes = _axes(ledger, slots, nodes, found, {axis.orbit for axis in generals})
    pinned, wiring = _pinned(ledger, nodes), wired(ledger, slots, nodes)
    return SymmetryGroup(ledger.shapes, names, axes, pinned, slots, nodes, found, generals, wiring)


def run(module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Ledger, dict[str, str]]:
    """Returns what a run of a module demands, and the name that each tensor is known by.

    Raises:
        InputError: The module cannot be run on such inputs without numbers.
    """
    if not isinstance(module, nn.Module):
        raise InputError("not a module", got=type(module).__name__, expected="a torch.nn.Module")
    inputs, named = pytree.tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (inputs, dict(named)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shadow = Shadow.of(module)
            return trace(shadow, inputs, named), shadow.names
    # Whatever a stranger's module may raise.
    except Exception as error:
        shapes = [tuple(tensor.shape) for tensor in pytree.tree_leaves((inputs, named)) if isinstance(tensor, Tensor)]
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{type(module).__name__} cannot be run on the example input without numbers",
            where=said,
            got=f"input of shape {', '.join(map(str, shapes))}",
            expected="an input that the module takes, and no step that depends on values",
        ) from error


def _gaugeable(ledger: Ledger, slots: Slots, kind: str) -> Scales:
    """The scales of a kind, less those that no canonical form can fix one after the other.

    Such are the scales of rows and of columns where both act on one parameter alone, as on W in |W|·x.
    """
    while True:
        found = scales.solve(ledger, kind)
        left = found.entangled(slots)
        if not len(left):
            return found
        ledger.fix_scale(left, [kind])


def _generals(ledger: Ledger, slots: Slots, nodes: Nodes, found: Mapping[str, Scales]) -> tuple[General, ...]:
    """Orbits whose nodes meet linear operations alone, each with one free scale, so that any map of them will do."""
    gated = np.zeros(len(nodes.pinned), dtype=bool)
    for ids in ledger.gated:
        gated[nodes.of_entries[ids]] = True
    variables = {kind: found[kind].variable[slots.entries] for kind in found}
    power = found["positive"].power[slots.entries]
    free = {kind: np.isin(variables[kind], found[kind].free) for kind in found}
    held = [np.isin(variables[kind], np.unique(_in_products(found[kind]))) for kind in found]
    sound = free["positive"] & free["sign"] & ~held[0] & ~held[1]
    by_node = np.argsort(slots.nodes, kind="stable")
    starts = np.searchsorted(slots.nodes[by_node], np.arange(len(nodes.pinned) + 1))
    blocks = {orbit.parent for orbit in nodes.orbits}
    result = []
    for place, orbit in enumerate(nodes.orbits):
        first = orbit.members.flat[0]
        own = by_node[starts[first] : starts[first + 1]]
        if place in blocks or orbit.members.shape[1] < 2 or not len(own) or gated[orbit.members].any():
            continue
        if not sound[own].all() or len(np.unique(variables["positive"][own])) > 1:
            continue
        parts = _parts(slots, orbit.members, power)
        if parts is not None:
            result.append(General(place, parts))
    return tuple(result)


def _in_products(scales: Scales) -> np.ndarray:
    """Variables that a product determines or is determined by."""
    return np.concatenate([np.concatenate([step[0], step[2], step[4]]) for step in scales.rest] or [scales.free[:0]])


def _parts(slots: Slots, members: np.ndarray, power: np.ndarray) -> tuple[tuple[np.ndarray, int], ...] | None:
    """Where an orbit's nodes stand in each label, or None where powers differ or labels have several dimensions."""
    wanted = np.full(int(slots.nodes.max()) + 1, -1)
    wanted[members.ravel()] = np.arange(members.size)
    places = np.flatnonzero(wanted[slots.nodes] >= 0)
    parts = []
    for label in np.unique(slots.label[places]):
        own = places[slots.label[places] == label]
        if several(slots.where[label][2]):
            return None
        own = own[np.argsort(wanted[slots.nodes[own]], kind="stable")].reshape(*members.shape, -1)
        for tap in range(own.shape[2]):
            powers = np.unique(power[own[..., tap]])
            if len(powers) > 1:
                return None
            parts.append((own[..., tap : tap + 1], int(powers[0])))
    return tuple(parts)


@dataclass(frozen=True)
class _Touch:
    """Which labels of parameters hold each node."""

    slots: Slots
    nodes: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, slots: Slots) -> "_Touch":
        many = len(slots.where) + 1
        nodes, labels = np.divmod(np.unique(slots.nodes * many + slots.label), many)
        return cls(slots, nodes, labels)

    def names(self, *nodes: int) -> list[str]:
        """Tensors that touch any of some nodes, in the order of the module."""
        ends = np.searchsorted(self.nodes, [[node, node + 1] for node in nodes]).reshape(-1, 2)
        labels = sorted({label for start, end in ends.tolist() for label in self.labels[start:end].tolist()})
        return list(dict.fromkeys(self.slots.where[label][0] for label in labels))

    def sets(self, count: int) -> np.ndarray:
        """A hash of each node's set of labels, 0 for the empty one. Shape: [nodes] uint64."""
        total = np.zeros(count, dtype=np.uint64)
        with np.errstate(over="ignore"):
            np.add.at(total, self.nodes, orbits.mixed(self.labels))
        return total


def _axes(
    ledger: Ledger, slots: Slots, nodes: Nodes, found: Mapping[str, Scales], general: set[int]
) -> tuple[GroupAxis, ...]:
    touch = _Touch.of(slots)
    scaling = _scalings(slots, found, len(nodes.pinned))
    order = {name: place for place, name in enumerate(ledger.shapes)}
    held: dict[int, list[str]] = defaultdict(list)
    for orbit in reversed(nodes.orbits):
        for block, row in zip(orbit.blocks.tolist(), orbit.members[:, 0].tolist(), strict=True):
            held[block] += touch.names(row) or held[row]
    axes = []
    for place, orbit in enumerate(nodes.orbits):
        copies, size = orbit.members.shape
        first = int(orbit.members[0, 0])
        tensors = touch.names(*orbit.members[:, 0].tolist())
        around = tensors or sorted(held[first], key=order.__getitem__) or [""]
        name, kind = around[0].rpartition(".")[0], _SCALINGS[scaling[first]]
        movable = size > 1 or (orbit.parent is not None and copies > 1)
        axes.append(GroupAxis(name, size, copies, "hidden", movable, kind, place in general, tuple(tensors)))
    return (*axes, *_pinned_axes(ledger, nodes, touch, scaling))


def _scalings(slots: Slots, found: Mapping[str, Scales], count: int) -> np.ndarray:
    """The place of each node's scaling in `_SCALINGS`. Shape: [nodes]."""
    total = np.zeros(count, dtype=np.int64)
    for bit, kind in ((1, "sign"), (2, "positive")):
        total[slots.nodes[found[kind].variable[slots.entries] >= 0]] |= bit
    return total


def _pinned_axes(ledger: Ledger, nodes: Nodes, touch: _Touch, scaling: np.ndarray) -> list[GroupAxis]:
    """Nodes that may not move, by what holds them and which tensors they stand in."""
    why = np.full(len(nodes.pinned), len(_REASONS))
    for pin in ledger.pins:
        rank = _REASONS.index(pin.reason) if pin.reason in _REASONS else len(_REASONS)
        own = nodes.of_entries[pin.entries]
        why[own] = np.minimum(why[own], rank)
    sets = touch.sets(len(nodes.pinned))
    shown = np.flatnonzero(nodes.pinned & (sets > 0) & (why != _REASONS.index("kernel")))
    keys = np.stack([why[shown].astype(np.uint64), sets[shown], scaling[shown].astype(np.uint64)])
    _, first, counts = np.unique(keys, axis=1, return_index=True, return_counts=True)
    axes = []
    for place in np.argsort(first).tolist():
        node = int(shown[first[place]])
        role: Role = "hidden" if why[node] == len(_REASONS) else _REASONS[why[node]]
        names = tuple(touch.names(node))
        kind = _SCALINGS[scaling[node]]
        axes.append(GroupAxis(names[0].rpartition(".")[0], int(counts[place]), 1, role, False, kind, False, names))
    return axes


def _pinned(ledger: Ledger, nodes: Nodes) -> tuple[Pinned, ...]:
    touched: dict[tuple[str, str], set[int]] = defaultdict(set)
    for pin in ledger.pins:
        if pin.reason not in _REASONS:
            touched[(pin.reason, pin.module)].update(nodes.of_entries[pin.entries].tolist())
    return tuple(Pinned(name, module, len(own)) for (name, module), own in touched.items())
