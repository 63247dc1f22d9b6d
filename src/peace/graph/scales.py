"""Solves for the scales: which entries may be multiplied freely, and how the others follow."""

from dataclasses import dataclass

import numpy as np

from peace.graph.labels import Ledger, components
from peace.graph.slots import Slots


@dataclass(frozen=True)
class Scales:
    """The scales of one kind, as logarithms (positive) or as bits (sign).

    Attributes:
        variable: Variable of each entry, -1 where the scale is 1. Shape: [entries].
        power: 1 or -1: whether the entry has the variable's scale or its inverse. Shape: [entries].
        free: Variables that may be chosen. Shape: [free].
        rest: What is left of the products, in the order in which they determine the variables that are not free:
            (variable, power and variable of either factor), arrays of equal length.
        products: Entries of the products that are left: result and factors. Shape: [3, products].
        count: Number of variables.
    """

    variable: np.ndarray
    power: np.ndarray
    free: np.ndarray
    rest: tuple[np.ndarray, ...]
    products: np.ndarray
    count: int

    def complete(self, values: np.ndarray) -> np.ndarray:
        """Returns values of all variables from those of the free ones. Shape: [variables] -> same."""
        for step in self.rest:
            target, p1, v1, p2, v2 = step
            values[target] = p1 * values[v1] + p2 * values[v2]
        return values

    def acting(self, entries: np.ndarray) -> int:
        """Returns how many of the signs of some entries can be chosen independently: a rank modulo 2."""
        forms: dict[int, frozenset[int]] = {}
        for target, _, first, _, second in self.rest:
            for name, one, other in zip(target.tolist(), first.tolist(), second.tolist(), strict=True):
                forms[name] = forms.get(one, frozenset({one})) ^ forms.get(other, frozenset({other}))
        seen = set(self.variable[entries].tolist()) - {-1}
        alone = seen - forms.keys()
        pivots: dict[int, frozenset[int]] = {}
        for form in (forms[name] - alone for name in seen & forms.keys()):
            while form and (pivot := min(form)) in pivots:
                form ^= pivots[pivot]
            if form:
                pivots[min(form)] = form
        return len(alone) + len(pivots)

    def entangled(self, slots: Slots) -> np.ndarray:
        """Returns entries whose scales no parameter fixes, even after all others that can be are fixed.

        A parameter fixes the scales along one of its dimensions once those along the others are fixed; a product fixes
        one of its three scales.
        """
        variable = self.variable[slots.entries]
        products = self.variable[self.products]
        open_ = np.append(np.ones(self.count, dtype=bool), False)
        while True:
            before = int(open_.sum())
            held = np.logical_or.reduceat(open_[variable], slots.starts[:-1]) if len(variable) else variable
            busy = np.bincount(slots.tensor, weights=held, minlength=len(slots.where) + 1)
            open_[variable[(busy[slots.tensor] == 1)[slots.label]]] = False
            lone = open_[products].sum(0) == 1
            open_[products[:, lone]] = False
            if int(open_.sum()) == before:
                return slots.entries[open_[variable]]

    def of_entries(self, values: np.ndarray, entries: np.ndarray) -> np.ndarray:
        """Returns the entries' scales, as logarithms, 0 where they are 1."""
        # One more variable, of scale 1, for the entries that have none: -1 is its place.
        padded = np.append(values, 0.0)
        return padded[self.variable[entries]] * self.power[entries]


def factors(logs: np.ndarray, kind: str) -> np.ndarray:
    """Returns what scales multiply by: logarithms are of positive numbers, bits of signs."""
    return np.exp(logs) if kind == "positive" else 1 - 2 * (np.rint(logs) % 2)


def solve(ledger: Ledger, kind: str) -> Scales:
    """Returns the scales of a kind that keep the network's function.

    What products leave undetermined and cannot be solved by elimination is fixed at 1: fewer symmetries, all sound.

    Args:
        ledger: What the run demands.
        kind: `positive` or `sign`.
    """
    size = ledger.size
    same, opposite = _pairs(ledger.same_scale), _pairs(ledger.opposite_scale)
    products = np.concatenate([np.stack(triple) for triple in ledger.products], axis=1) if ledger.products else None
    products = np.zeros((3, 0), dtype=np.int64) if products is None else products
    fixed = np.zeros(size, dtype=bool)
    for ids in ledger.fixed_scale[kind]:
        fixed[ids] = True
    while True:
        variable, power, fixed = _classes(size, same, opposite, fixed, kind)
        v, p, zero = variable[products], power[products], fixed[products]
        settled = zero.sum(0)
        one_left = settled == 2
        news = products[:, one_left][~zero[:, one_left]]
        fixed[news] = True
        two = settled == 1
        more_same, more_opposite = [], []
        (c, a, b), (zc, za, zb) = products[:, two], zero[:, two]
        for first, second, where, pairs in (
            (c, b, za, more_same), (c, a, zb, more_same), (a, b, zc, more_opposite)
        ):  # fmt: skip
            pairs.append(np.stack([first[where], second[where]]))
        # A sign is its own inverse.
        powers = power if kind == "positive" else np.zeros_like(power)
        fresh_same = _different(np.concatenate(more_same, axis=1), variable, powers, 1)
        fresh_opposite = _different(np.concatenate(more_opposite, axis=1), variable, powers, -1)
        # c = a·b with c and a the same variable leaves 1 for b.
        open_ = settled == 0
        for factor, twin in ((1, 2), (2, 1)):
            equal = open_ & (v[0] == v[twin]) & ((p[0] == p[twin]) | (kind == "sign"))
            news = np.concatenate([news, products[factor][equal]])
        fixed[news] = True
        if len(news) or fresh_same.size or fresh_opposite.size:
            same = np.concatenate([same, fresh_same], axis=1)
            opposite = np.concatenate([opposite, fresh_opposite], axis=1)
            continue
        stuck, rest = _eliminate(v[:, open_], p[:, open_])
        if not stuck.any():
            break
        fixed[products[:, open_][:, stuck]] = True
    numbers, number = np.unique(variable[~fixed], return_inverse=True)
    compact = np.full(size, -1)
    compact[~fixed] = number
    place = {int(old): new for new, old in enumerate(numbers)}
    renumber = np.vectorize(place.__getitem__, otypes=[np.int64])
    steps = tuple(
        (renumber(t), p1, renumber(v1), p2, renumber(v2)) if len(t) else (t, p1, v1, p2, v2)
        for t, p1, v1, p2, v2 in rest
    )
    dependent = np.concatenate([step[0] for step in steps]) if steps else np.zeros(0, dtype=np.int64)
    free = np.setdiff1d(np.arange(len(numbers)), dependent)
    return Scales(compact, power, free, steps, products[:, open_], len(numbers))


def _pairs(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    if not pairs:
        return np.zeros((2, 0), dtype=np.int64)
    return np.concatenate([np.stack(pair) for pair in pairs], axis=1)


def _different(pairs: np.ndarray, variable: np.ndarray, power: np.ndarray, relation: int) -> np.ndarray:
    """Pairs that are not yet known to be related so."""
    first, second = pairs
    known = (variable[first] == variable[second]) & (power[first] == relation * power[second])
    return pairs[:, ~known]


def _classes(
    size: int, same: np.ndarray, opposite: np.ndarray, fixed: np.ndarray, kind: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Variable and power of each entry, and which scales are 1 once what is tied to a fixed one is fixed too."""
    first, second = opposite
    crossed = (np.stack([first, second + size]), np.stack([first + size, second]))
    count, label = components(2 * size, np.concatenate([same, same + size, *crossed], axis=1))
    plus, minus = label[:size], label[size:]
    variable, power = np.minimum(plus, minus), np.where(plus <= minus, 1, -1)
    closed = np.zeros(count, dtype=bool)
    if kind == "positive":
        # What is its own inverse is 1; a sign always is.
        closed[variable[plus == minus]] = True
    closed[variable[fixed]] = True
    return variable, power, closed[variable]


def _eliminate(v: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, list[tuple[np.ndarray, ...]]]:
    """Solves c = a·b for variables that no other product holds, until none is left or none can be solved.

    Returns:
        Which products could not be solved, and the steps that determine variables, in order of use.
    """
    # s_c p_c = s_a p_a + s_b p_b; solved for one: its sign times the others'.
    sign = np.array([[1], [-1], [-1]])
    active, steps = np.ones(v.shape[1], dtype=bool), []
    while active.any():
        count = np.bincount(v[:, active].ravel(), minlength=int(v.max()) + 1)
        alone = (count[v] == 1) & active
        chosen = np.flatnonzero(alone.any(0))
        if not len(chosen):
            break
        row = alone[:, chosen].argmax(0)
        others = np.array([[1, 2], [0, 2], [0, 1]])[row].T
        coefficient = (sign * p)[:, chosen]
        own = coefficient[row, np.arange(len(chosen))]
        parts = [v[row, chosen]]
        for other in others:
            parts += [-own * coefficient[other, np.arange(len(chosen))], v[other, chosen]]
        steps.append(tuple(parts))
        active[chosen] = False
    return active, steps[::-1]
