import numpy as np
import pytest

from peace.graph.labels import Ledger
from peace.graph.scales import Scales, solve

ONE = np.array([1])


def product_of_two() -> Scales:
    """Entries 0, 1 and 2 with scales of their own, the last of which is the product of the others; entry 3 has 1."""
    step = (np.array([2]), ONE, np.array([0]), ONE, np.array([1]))
    power = np.ones(4, dtype=np.int64)
    return Scales(np.array([0, 1, 2, -1]), power, np.array([0, 1]), (step,), np.array([[2], [0], [1]]), 3)


@pytest.mark.parametrize(("seen", "expected"), [([2], 1), ([0, 2], 2), ([0, 1, 2], 2), ([3], 0), ([0, 1], 2)])
def test_what_acts_only_through_a_product_counts_once(seen: list[int], expected: int) -> None:
    assert product_of_two().acting(np.array(seen)) == expected


def test_a_product_follows_its_factors() -> None:
    scales = product_of_two()
    values = scales.complete(np.array([0.5, 2.0, 0.0]))
    assert scales.of_entries(values, np.arange(4)).tolist() == [0.5, 2.0, 2.5, 0.0]


def ledger(size: int) -> Ledger:
    found = Ledger()
    found.fresh((size,))
    return found


def ids(*places: int) -> np.ndarray:
    return np.array(places)


@pytest.mark.parametrize("kind", ["positive", "sign"])
def test_ties_chains_and_products_are_solved(kind: str) -> None:
    known = ledger(6)
    known.same_scale.append((ids(0), ids(1)))
    known.opposite_scale.append((ids(1), ids(2)))
    known.product(ids(3), ids(0), ids(4))
    known.fixed_scale[kind].append(ids(4))
    scales = solve(known, kind)
    # 4 is 1, so that 3 goes with 0, 1 and against 2; 5 is on its own.
    assert scales.variable[4] == -1
    assert len({*scales.variable[:4].tolist()}) == 1 and scales.variable[5] not in scales.variable[:4]
    power = scales.power * scales.power[0]
    assert power[[0, 1, 3]].tolist() == [1, 1, 1] and power[2] == -1
    assert len(scales.free) == 2


def test_what_is_its_own_inverse_has_no_positive_scale_and_may_have_a_sign() -> None:
    known = ledger(1)
    known.opposite_scale.append((ids(0), ids(0)))
    assert len(solve(known, "positive").free) == 0
    assert len(solve(known, "sign").free) == 1


def test_a_factor_that_leaves_the_product_as_it_is_is_one() -> None:
    known = ledger(3)
    known.product(ids(0), ids(1), ids(2))
    known.same_scale.append((ids(0), ids(1)))
    scales = solve(known, "positive")
    assert scales.variable[2] == -1 and scales.variable[0] == scales.variable[1] >= 0
