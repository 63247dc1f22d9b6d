"""How a network's tensors act, in the order of the forward pass: which dimensions write nodes and which read them."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from peace.graph.labels import Ledger, Use
from peace.graph.orbits import Nodes
from peace.graph.slots import Slots

Kind = Literal["linear", "conv", "embedding", "norm", "table", "vector"]

NAMED = {"input": 1, "position": 2, "output": 4}
"""The reasons for pinning that give nodes identities, as bits."""


@dataclass(frozen=True)
class Act:
    """A tensor in one of its parts: most have one, an embedding that is also the head has two.

    Attributes:
        tensor: Its name.
        kind: `table` is what has several dimensions with nodes and `vector` what has one, in no operation known.
        out: The dimensions of what it writes; several only where more than two hold hidden nodes.
        into: The dimension of what it reads, or none.
        bias: The vector added to what it writes.
        channels: Nodes that the groups of a convolution read, one each, which its tensor has no dimension for.
    """

    tensor: str
    kind: Kind
    out: tuple[int, ...]
    into: tuple[int, ...]
    bias: str | None = None
    channels: np.ndarray | None = None


@dataclass(frozen=True)
class Wiring:
    """What every tensor does.

    Attributes:
        acts: In the order of the forward pass; last come tensors that took no part in it.
        named: Of each node, why it has an identity: bits of `NAMED`, 0 for hidden nodes. Shape: [nodes].
        pinned: Whether a node may not move. Shape: [nodes].
    """

    acts: tuple[Act, ...]
    named: np.ndarray
    pinned: np.ndarray


def wired(ledger: Ledger, slots: Slots, nodes: Nodes) -> Wiring:
    """Returns how the tensors of a run act."""
    named = np.zeros(len(nodes.pinned), dtype=np.int64)
    for pin in ledger.pins:
        named[nodes.of_entries[pin.entries]] |= NAMED.get(pin.reason, 0)
    return Wiring(_Acts(ledger, slots, nodes, named).all(), named, nodes.pinned)


class _Acts:
    def __init__(self, ledger: Ledger, slots: Slots, nodes: Nodes, named: np.ndarray) -> None:
        self.ledger, self.nodes = ledger, nodes
        self.fixed = nodes.pinned | (named > 0)
        self.labels = {name: slots.nodes_along.get(name, {}) for name in ledger.shapes}

    def all(self) -> tuple[Act, ...]:
        """Every tensor's acts."""
        asked = {name: place + 1 for place, name in enumerate(self.ledger.asked)}
        found: dict[tuple, tuple[int, Act]] = {}
        for use in self.ledger.uses:
            act = self._used(use)
            found.setdefault((act.tensor, act.kind == "norm", act.out, act.into), (use.at, act))
        taken = {name for _, act in found.values() for name in (act.tensor, act.bias)}
        rest = [self._other(name) for name in self.ledger.shapes if name not in taken]
        timed = [*found.values(), *((asked.get(act.tensor, len(asked) + 1), act) for act in rest)]
        return tuple(act for _, act in sorted(timed, key=lambda pair: pair[0]))

    def _used(self, use: Use) -> Act:
        if use.kind == "norm":
            added = self._alike(use.bias, use.weight) and len(self.labels[use.weight]) < 2
            return replace(self._other(use.weight), kind="norm", into=(), bias=use.bias if added else None)
        kind = "conv" if use.kind == "grouped" else use.kind
        out, into = self._dim(use.weight, use.written), self._dim(use.weight, use.read)
        channels = None
        if use.kind == "grouped":
            # The entries that all groups shared gave way to each group's own.
            held = self.labels[use.weight]
            out = out or tuple(1 - dim for dim in into if 1 - dim in held)
            into = into or tuple(1 - dim for dim in out if 1 - dim in held)
            channels = self.nodes.of_entries[use.read] if not into and len(use.read) else None
        bias = use.bias if self._writes_alike(use.bias, use.weight, out) else None
        return Act(use.weight, kind, out, into, bias, channels=channels)

    def _dim(self, name: str, entries: np.ndarray) -> tuple[int, ...]:
        """The dimension of a tensor that holds some entries."""
        held = (dim for dim, ids in self.ledger.leaves[name].items() if len(entries) and np.isin(entries[0], ids))
        return tuple(held)

    def _alike(self, name: str | None, other: str) -> bool:
        """Whether two tensors hold the same nodes."""
        if name is None or self.ledger.shapes[name] != self.ledger.shapes[other]:
            return False
        return all(np.array_equal(ids, self.labels[other][dim]) for dim, ids in self.labels[name].items())

    def _writes_alike(self, bias: str | None, weight: str, out: tuple[int, ...]) -> bool:
        """Whether a vector lies on the nodes that a weight writes."""
        if bias is None or np.prod(self.ledger.shapes[bias], dtype=int) != max(self.ledger.shapes[bias], default=1):
            return False
        own = [ids.ravel() for ids in self.labels[bias].values()]
        written = [self.labels[weight][dim] for dim in out]
        if not own or not written:
            return len(own) == len(written) == 0
        if written[0].size == written[0].shape[out[0]]:
            return np.array_equal(own[0], written[0].ravel())
        return np.array_equal(np.sort(own[0]), np.unique(written[0]))

    def _other(self, name: str) -> Act:
        """How a tensor acts of which only its nodes are known."""
        hidden = [dim for dim, ids in self.labels[name].items() if not self.fixed[ids].all()]
        fixed = [dim for dim in self.labels[name] if dim not in hidden]
        if len(hidden) > 2:
            return Act(name, "table", tuple(sorted(hidden)[:-1]), (max(hidden),))
        order = [*sorted(hidden), *sorted(fixed, reverse=not hidden)]
        return Act(name, "table" if len(order) > 1 else "vector", tuple(order[:1]), tuple(order[1:2]))
