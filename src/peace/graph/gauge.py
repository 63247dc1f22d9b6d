"""The canonical form under the scaling group of a derived symmetry group: one representative for each orbit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from peace.graph.labels import KINDS
from peace.graph.scales import Scales, factors

if TYPE_CHECKING:
    from peace.graph.group import SymmetryGroup


def canonical_form(group: SymmetryGroup, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights that every rescaled copy of a network maps to; its function does not change.

    Scales are fixed one after the other in the order of the forward pass, each by the parameters that it multiplies and
    that no scale still open multiplies or divides: what a positive scale multiplies gets norm 1, of what a sign
    multiplies the sum of cubes becomes positive. Where that is zero, a scale waits for the others, which leave out what
    it acts on. Where all that it multiplies is zero, what it divides acts on zeros alone, is arbitrary and becomes
    zero. Renumberings and the maps of general axes are left as they are.

    Args:
        group: The symmetry group.
        tensors: The parameters that it knows. All in one floating type, best float64.
    """
    result = dict(tensors)
    for kind in KINDS:
        gauge = _Gauge(group, kind, result)
        gauge.fix()
        result = gauge.applied()
    return result


class _Gauge:
    """The choice of all scales of one kind; positive ones are logarithms, signs bits."""

    def __init__(self, group: SymmetryGroup, kind: str, tensors: Mapping[str, Tensor]) -> None:
        self.kind, self.tensors = kind, tensors
        self.scales: Scales = group.scales[kind]
        self.variable = self.scales.variable[group.slots.entries]
        self.power = self.scales.power[group.slots.entries]
        self.products = self.scales.variable[self.scales.products], self.scales.power[self.scales.products]
        self.values = np.zeros(self.scales.count + 1)
        # The last one stands for what has scale 1.
        self.open = np.ones(self.scales.count + 1, dtype=bool)
        self.open[-1] = False
        self.waiting = np.zeros_like(self.open)
        self.dead = np.zeros_like(self.open)
        self.slots = group.slots
        self.labels: dict[str, list[tuple[int, tuple[int, ...], slice]]] = {}
        for label, (name, _, shape) in enumerate(group.slots.where):
            own = slice(int(group.slots.starts[label]), int(group.slots.starts[label + 1]))
            self.labels.setdefault(name, []).append((label, shape, own))

    def fix(self) -> None:
        """Chooses every scale, in the order of the parameters; by what it divides only where nothing else is left."""
        while self._pass(1) or self._bury() or self._pass(-1):
            pass

    def _pass(self, power: int) -> bool:
        """Fixes what can be fixed by what scales multiply (1) or divide (-1), and returns whether anything was."""
        before, tried = int(self.open.sum()), np.zeros_like(self.open)
        while (wanted := self._next(tried, power)) is not None:
            total = np.zeros(len(self.values))
            for name, label, slots in self._closed():
                own = self.variable[slots]
                chosen = wanted[own] & (self.power[slots] == power)
                if chosen.any():
                    np.add.at(total, own[chosen], self._statistic(name, label)[chosen])
            self._choose(wanted, total, power)
            self._follow()
            tried |= wanted
            if (wanted & ~self.open).any():
                # What waits may now be seen by more parameters.
                tried &= ~self.waiting
        return int(self.open.sum()) < before

    def _next(self, tried: np.ndarray, power: int) -> np.ndarray | None:
        """The open scales of the first parameter that can fix any. Shape: [variables + 1] bool."""
        for _, _, slots in self._closed():
            own = self.variable[slots][self.power[slots] == power]
            own = own[self.open[own] & ~tried[own]]
            if len(own):
                wanted = np.zeros_like(self.open)
                wanted[own] = True
                return wanted
        return None

    def _closed(self) -> Iterator[tuple[str, int, slice]]:
        """Yields labels with open scales of parameters whose other labels have none but such as wait."""
        where, starts = self.slots.tensor, self.slots.starts
        if not len(where):
            return
        open_ = self.open[self.variable]
        held = np.logical_or.reduceat(open_ & ~self.waiting[self.variable], starts[:-1])
        alone = np.bincount(where, weights=held)[where] == held
        for label in np.flatnonzero(alone & np.logical_or.reduceat(open_, starts[:-1])).tolist():
            yield self.slots.where[label][0], label, slice(int(starts[label]), int(starts[label + 1]))

    def _scaled(self, name: str, leave: int | None = None) -> Tensor:
        """A parameter times the scales chosen so far, but for those of one label."""
        tensor = self.tensors[name]
        for place, shape, slots in self.labels.get(name, []):
            logs = self.values[self.variable[slots]] * self.power[slots]
            if place != leave and logs.any():
                tensor = tensor * torch.from_numpy(factors(logs, self.kind)).to(tensor).reshape(shape)
        return tensor

    def _statistic(self, name: str, label: int) -> np.ndarray:
        """The sum of squares or cubes at each slot of a label, but for what waiting scales act on. Shape: [slots]."""
        tensor = self._scaled(name, label).double()
        for place, shape, slots in self.labels[name]:
            waiting = self.waiting[self.variable[slots]]
            if place != label and waiting.any():
                tensor = tensor * torch.from_numpy(~waiting).to(tensor).reshape(shape)
        return self._summed(tensor.square() if self.kind == "positive" else tensor.pow(3), self.slots.where[label][2])

    @staticmethod
    def _summed(tensor: Tensor, shape: tuple[int, ...]) -> np.ndarray:
        """A sum over all that a label of this shape does not extend along. Shape: [slots]."""
        dims = [dim for dim, size in enumerate(shape) if size == 1 and tensor.shape[dim] > 1]
        return (tensor.sum(dims, keepdim=True) if dims else tensor).reshape(-1).cpu().numpy()

    def _choose(self, wanted: np.ndarray, total: np.ndarray, power: int) -> None:
        chosen = wanted & (total != 0)
        if self.kind == "positive":
            self.values[chosen] = -power * np.log(total[chosen]) / 2
        else:
            self.values[chosen] = total[chosen] < 0
        self.open &= ~chosen
        self.waiting = (self.waiting | wanted) & self.open

    def _bury(self) -> bool:
        """Closes scales that multiply nothing but zeros, and returns whether there were any.

        What products make may come from elsewhere.
        """
        if not self.open.any():
            return False
        alive = np.zeros_like(self.open)
        alive[np.unique(self.products[0])] = True
        written = np.zeros_like(self.open)
        for name, labels in self.labels.items():
            for _, shape, slots in labels:
                own, up = self.variable[slots], self.power[slots] > 0
                written[own[up]] = True
                alive[own[up & (self._summed(self.tensors[name].double().abs(), shape) > 0)]] = True
        found = self.open & written & ~alive
        self.dead |= found
        self.open &= ~found
        self.waiting &= ~found
        return bool(found.any())

    def _follow(self) -> None:
        """Fixes scales that products determine from those that are fixed."""
        places, powers = self.products
        while True:
            waiting = self.open[places]
            ready = waiting.sum(0) == 1
            if not ready.any():
                return
            row = waiting[:, ready].argmax(0)
            terms = np.array([[1], [-1], [-1]]) * (powers * self.values[places])[:, ready]
            own = np.array([1, -1, -1])[row] * powers[:, ready][row, np.arange(len(row))]
            target = places[:, ready][row, np.arange(len(row))]
            self.values[target] = -own * terms.sum(0)
            self.open[target] = False

    def applied(self) -> dict[str, Tensor]:
        """Returns the parameters with the chosen scales."""
        found = {name: self._scaled(name) for name in self.tensors}
        for name, labels in self.labels.items():
            for _, shape, slots in labels:
                gone = self.dead[self.variable[slots]] & (self.power[slots] < 0)
                if gone.any():
                    found[name] = found[name] * torch.from_numpy(~gone).to(found[name]).reshape(shape)
        return found
