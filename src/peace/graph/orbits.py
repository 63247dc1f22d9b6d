"""Solves for the nodes: which may be renumbered, among each other or as blocks of nodes that move as a whole."""

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from peace.graph.labels import Ledger, components


@dataclass(frozen=True)
class Orbit:
    """Nodes that may be renumbered within each of some blocks, which may themselves be renumbered.

    Attributes:
        members: Nodes. Shape: [copies, size].
        parent: Place of the orbit whose nodes are the blocks, or None.
        blocks: The block of each copy. Shape: [copies].
    """

    members: np.ndarray
    parent: int | None
    blocks: np.ndarray


@dataclass(frozen=True)
class Nodes:
    """The nodes of a network.

    Attributes:
        of_entries: Node of each entry. Shape: [entries].
        pinned: Whether a node may not move. Shape: [nodes].
        orbits: Of the others, parents before children.
    """

    of_entries: np.ndarray
    pinned: np.ndarray
    orbits: tuple[Orbit, ...]

    def order(self, rng: np.random.Generator, still: frozenset[int] = frozenset()) -> np.ndarray:
        """Returns a uniformly random renumbering: the old node that comes to stand at each node.

        Args:
            rng: Source of chance.
            still: Places of orbits that are not renumbered within their blocks.
        """
        order = np.arange(len(self.pinned))
        for place, orbit in enumerate(self.orbits):
            copies, size = orbit.members.shape
            inner = np.argsort(rng.random((copies, size)), axis=1)
            if place in still:
                inner = np.broadcast_to(np.arange(size), (copies, size))
            source = np.arange(copies)
            if orbit.parent is not None:
                row = np.full(len(order), -1)
                row[orbit.blocks] = source
                source = row[order[orbit.blocks]]
            order[orbit.members] = np.take_along_axis(orbit.members[source], inner, axis=1)
        return order


def solve(ledger: Ledger) -> Nodes:
    """Returns the nodes of a network and the renumberings that keep its function.

    Two nodes may be exchanged when every operation treats them alike: they stand in the same labels, equally often and
    moved in the same way, belong to the same blocks, and hold blocks of the same kinds.
    """
    edges = [np.stack(pair) for pair in ledger.same_node] or [np.zeros((2, 0), dtype=np.int64)]
    while True:
        count, node = components(ledger.size, np.concatenate(edges, axis=1))
        # Products of two numbers of entries do not fit into scipy's 32 bits.
        node = node.astype(np.int64)
        twins = _twins(ledger, node)
        if not twins.shape[1]:
            break
        edges.append(twins)
    pinned = np.zeros(count, dtype=bool)
    for pin in ledger.pins:
        pinned[node[pin.entries]] = True
    signature = _signatures(ledger, node, count)
    parents = _parents(ledger, node)
    tree, depth = _tree(parents, pinned)
    kind = _kinds(signature, tree, depth, pinned)
    acting = {
        int(number) for labels in ledger.leaves.values() for ids in labels.values() for number in node[ids.ravel()]
    }
    for number in sorted(acting & tree.keys(), key=lambda number: -depth[number]):
        acting.update(tree[number])
    return Nodes(node, pinned, _orbits(kind, tree, depth, pinned, acting))


def ranks(nodes: np.ndarray) -> np.ndarray:
    """Returns how often each place's node has come before it. Shape: [n] -> [n]."""
    order = np.argsort(nodes, kind="stable")
    ordered = nodes[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[starts, len(ordered)])
    result = np.empty(len(nodes), dtype=np.int64)
    result[order] = np.arange(len(nodes)) - np.repeat(starts, sizes)
    return result


def mixed(*parts: np.ndarray | int) -> np.ndarray:
    """A hash of integers, place by place (splitmix64)."""
    total = np.uint64(0)
    with np.errstate(over="ignore"):
        for part in parts:
            total = (
                np.asarray(part).astype(np.uint64)
                + total * np.uint64(0x9E3779B97F4A7C15)
                + np.uint64(0x632BE59BD9B4E019)
            )
            total = (total ^ (total >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            total = (total ^ (total >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            total = total ^ (total >> np.uint64(31))
    return total


def _signatures(ledger: Ledger, node: np.ndarray, count: int) -> np.ndarray:
    """Where each node stands. Shape: [nodes] uint64."""
    signature = np.zeros(count, dtype=np.uint64)
    place = 0

    def note(nodes: np.ndarray, *facts: np.ndarray | int) -> None:
        nonlocal place
        place += 1
        with np.errstate(over="ignore"):
            np.add.at(signature, nodes, np.broadcast_to(mixed(place, *facts), nodes.shape))

    for labels in ledger.leaves.values():
        for dim, ids in labels.items():
            nodes = node[ids.ravel()]
            note(nodes, dim, ranks(nodes))
    for source, moved in ledger.movements:
        nodes = node[source]
        rank = ranks(nodes)
        note(nodes[moved], ranks(nodes[moved]), rank[moved])
    for entries, marks in ledger.marks:
        note(node[entries], marks)
    for children, blocks in ledger.children:
        nodes = node[children]
        pairs = nodes * ledger.size + blocks
        # Blocks that share a node stay where they are, and so must each of its places in them.
        several = np.bincount(np.unique(pairs) // ledger.size, minlength=count)[nodes] > 1
        note(nodes, ranks(nodes), np.where(several, blocks, ledger.size))
    return signature


def _parents(ledger: Ledger, node: np.ndarray) -> dict[int, set[int]]:
    parents: dict[int, set[int]] = defaultdict(set)
    for children, blocks in ledger.children:
        pairs = np.unique(np.stack([node[children], node[blocks]], axis=1), axis=0)
        for child, block in pairs[pairs[:, 0] != pairs[:, 1]].tolist():
            parents[child].add(block)
    return parents


def _twins(ledger: Ledger, node: np.ndarray) -> np.ndarray:
    """Entries of blocks in which operations see the same nodes, so that they move together. Shape: [2, pairs]."""
    first: dict[frozenset[int], int] = {}
    pairs = []
    for children, blocks in ledger.children:
        held: dict[int, set[int]] = defaultdict(set)
        for child, block in zip(node[children].tolist(), blocks.tolist(), strict=True):
            held[block].add(child)
        rows = {block: frozenset(nodes) for block, nodes in held.items()}
        often = Counter(rows.values())
        for block, nodes in rows.items():
            # Of several blocks with the same nodes in one operation none is the twin.
            twin = first.setdefault(nodes, block) if often[nodes] == 1 else block
            if node[twin] != node[block]:
                pairs.append((twin, block))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2).T


def _tree(parents: dict[int, set[int]], pinned: np.ndarray) -> tuple[dict[int, tuple[int, ...]], dict[int, int]]:
    """The innermost block of each node that belongs to any, and how deep it lies.

    Blocks that overlap without one lying in the other are pinned, and so is every block around a pinned node. A node
    in several such blocks keeps them all: it may only be exchanged with others in the same ones.
    """
    ancestors: dict[int, frozenset[int]] = {}

    def above(node: int, path: tuple[int, ...] = ()) -> frozenset[int]:
        if node in path:
            pinned[list(path)] = True
            return frozenset()
        if node not in ancestors:
            own = parents.get(node, set())
            ancestors[node] = frozenset(own).union(*(above(block, (*path, node)) for block in own))
        return ancestors[node]

    tree, depth = {}, {}
    for node, own in parents.items():
        inner = tuple(sorted(block for block in own if not any(block in above(other) for other in own - {block})))
        tree[node], depth[node] = inner, len(above(node))
        if len(inner) > 1:
            pinned[list(inner)] = True
    for node in sorted(parents, key=lambda node: -len(above(node))):
        if pinned[node]:
            pinned[list(above(node))] = True
    return tree, depth


def _kinds(
    signature: np.ndarray, tree: dict[int, tuple[int, ...]], depth: dict[int, int], pinned: np.ndarray
) -> np.ndarray:
    """A hash of what each node is and holds, equal for nodes that may be exchanged. Shape: [nodes] uint64."""
    held = np.zeros_like(signature)
    kind = mixed(signature, pinned, held)
    for level in sorted(set(depth.values()), reverse=True):
        nodes = np.array([node for node, own in depth.items() if own == level])
        kind[nodes] = mixed(signature[nodes], pinned[nodes], held[nodes])
        blocks = [(block, node) for node in nodes.tolist() for block in tree[node]]
        around, inside = np.array(blocks, dtype=np.int64).reshape(-1, 2).T
        with np.errstate(over="ignore"):
            np.add.at(held, around, mixed(7, kind[inside]))
    top = np.setdiff1d(np.arange(len(kind)), np.fromiter(tree, dtype=np.int64))
    kind[top] = mixed(signature[top], pinned[top], held[top])
    return kind


def _orbits(
    kind: np.ndarray,
    tree: dict[int, tuple[int, ...]],
    depth: dict[int, int],
    pinned: np.ndarray,
    acting: set[int],
) -> tuple[Orbit, ...]:
    """Nodes that may be exchanged; those that no parameter has, nor any node in them, are left out."""
    groups: dict[tuple, dict[tuple[int, ...], list[int]]] = defaultdict(dict)
    orbit_of: dict[int, object] = {}
    # Blocks come before what they hold, so that an orbit's name can contain its parent's.
    for node in sorted(range(len(kind)), key=lambda node: (depth.get(node, 0), node)):
        blocks = tree.get(node, ())
        around = tuple(orbit_of[block] for block in blocks)
        free = len(blocks) == 1 and not pinned[blocks[0]]
        key = (int(kind[node]), around if len(blocks) < 2 else blocks, free)
        orbit_of[node] = hash(key)
        if not pinned[node] and node in acting:
            groups[key].setdefault(blocks, []).append(node)
    orbits: list[Orbit] = []
    place_of: dict[int, int] = {}
    for (_, _, free), copies in groups.items():
        members = np.array(list(copies.values()))
        blocks = np.array([block[0] if len(block) == 1 else -1 for block in copies])
        parent = place_of[int(blocks[0])] if free else None
        if free:
            # Copies in the order of their blocks' own orbit.
            rank = {node: place for place, node in enumerate(orbits[parent].members.ravel().tolist())}
            by_block = np.argsort([rank[block] for block in blocks.tolist()])
            members, blocks = members[by_block], blocks[by_block]
        for node in members.ravel().tolist():
            place_of[node] = len(orbits)
        orbits.append(Orbit(members, parent, blocks))
    return tuple(orbits)
