"""The places along labelled dimensions of a network's parameters, where its symmetries act."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from peace.graph.labels import Ids
from peace.graph.orbits import ranks


@dataclass(frozen=True)
class Slots:
    """The places along labelled dimensions of parameters, one after the other.

    Attributes:
        where: (tensor, dimension, label shape) of each label, in the order of the slots.
        starts: First slot of each label, and the number of slots at the end.
        entries: Entry of each slot. Shape: [slots].
        nodes: Node of each slot. Shape: [slots].
    """

    where: tuple[tuple[str, int, tuple[int, ...]], ...]
    starts: np.ndarray
    entries: np.ndarray
    nodes: np.ndarray

    @classmethod
    def of(cls, leaves: Mapping[str, Mapping[int, Ids]], nodes: np.ndarray) -> "Slots":
        """Returns the slots of parameters' labels."""
        labels = [(name, dim, ids) for name, dims in leaves.items() for dim, ids in dims.items()]
        where = tuple((name, dim, ids.shape) for name, dim, ids in labels)
        starts = np.cumsum([0, *(ids.size for _, _, ids in labels)])
        entries = np.concatenate([ids.ravel() for _, _, ids in labels]) if labels else np.zeros(0, dtype=np.int64)
        return cls(where, starts, entries, nodes[entries])

    @cached_property
    def nodes_along(self) -> dict[str, dict[int, np.ndarray]]:
        """Name -> dimension -> node of each place along it, in the shape of the label."""
        found: dict[str, dict[int, np.ndarray]] = {}
        for name, dim, shape, places in self.parts():
            found.setdefault(name, {})[dim] = self.nodes[places].reshape(shape)
        return found

    @cached_property
    def tensor(self) -> np.ndarray:
        """Number of the tensor that each label belongs to. Shape: [labels]."""
        number = {name: place for place, name in enumerate(dict.fromkeys(name for name, _, _ in self.where))}
        return np.array([number[name] for name, _, _ in self.where], dtype=np.int64)

    @cached_property
    def label(self) -> np.ndarray:
        """Number of the label that each slot lies in."""
        return np.repeat(np.arange(len(self.where)), np.diff(self.starts))

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        keys = self.label * (int(self.nodes.max(initial=0)) + 1) + self.nodes
        by_key = np.argsort(keys, kind="stable")
        return keys[by_key], by_key, ranks(keys)

    def moved(self, order: np.ndarray) -> np.ndarray:
        """Returns the slot that each slot takes its numbers from when nodes are renumbered. Shape: [slots]."""
        keys, by_key, rank = self._sorted
        wanted = self.label * (int(self.nodes.max(initial=0)) + 1) + order[self.nodes]
        return by_key[np.searchsorted(keys, wanted) + rank]

    def parts(self) -> Iterator[tuple[str, int, tuple[int, ...], slice]]:
        """Yields each label's tensor, dimension, shape and slots; labels of several dimensions come last."""
        order = sorted(range(len(self.where)), key=lambda label: several(self.where[label][2]))
        for label in order:
            yield (*self.where[label], slice(int(self.starts[label]), int(self.starts[label + 1])))


def several(shape: tuple[int, ...]) -> bool:
    """Returns whether a label of this shape extends along more than one dimension."""
    return sum(size > 1 for size in shape) > 1
