"""Axes: all of a grid, some of it, and values drawn from ranges."""

import math
from collections import Counter

import pytest
from scipy import stats

from peace.errors import InputError
from peace.zoo.axes import check_range, points, values

LISTED = [["a", "b", "c"], [1, 2]]
RANGED = [*LISTED, {"log_uniform": [1e-4, 1e-1]}, {"uniform": [-1.0, 3.0]}]


def test_without_a_count_every_point_comes_once_in_order() -> None:
    assert list(points(LISTED, None, 0)) == [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("c", 1), ("c", 2)]
    assert list(points(LISTED, 9, 0)) == list(points(LISTED, None, 5))


def test_listed_points_are_drawn_without_replacement() -> None:
    drawn = [tuple(points(LISTED, 4, seed)) for seed in range(50)]
    assert all(len(set(own)) == 4 for own in drawn) and len(set(drawn)) > 40


def test_with_ranges_every_listed_combination_comes_as_often_as_any_other() -> None:
    listed = Counter(point[:2] for point in points(RANGED, 20, 3))
    assert len(listed) == 6 and sorted(listed.values()) == [3, 3, 3, 3, 4, 4]


def test_a_smaller_count_gives_the_first_of_the_points_of_a_larger_one() -> None:
    many = list(points(RANGED, 40, 3))
    assert list(points(RANGED, 7, 3)) == many[:7]
    assert not {point[2] for point in many} & {point[2] for point in points(RANGED, 40, 4)}


def test_values_follow_the_distribution_of_their_range() -> None:
    drawn = list(points(RANGED, 2000, 1))
    decades = [math.log10(point[2]) for point in drawn]
    assert stats.kstest(decades, stats.uniform(-4, 3).cdf).pvalue > 0.01
    assert stats.kstest([point[3] for point in drawn], stats.uniform(-1, 4).cdf).pvalue > 0.01
    assert abs(stats.pearsonr(decades, [point[3] for point in drawn]).statistic) < 0.1


def test_what_stands_on_an_axis() -> None:
    assert values([0.1, 0.2]) == [0.1, 0.2] == values({"uniform": [0.1, 0.2]})
    assert values("digits") == ["digits"] and values(None) == [None]


@pytest.mark.parametrize(
    ("axis", "sentence"),
    [
        ({"log_unifrom": [1.0, 2.0]}, "unknown range 'log_unifrom' in here; did you mean 'log_uniform'"),
        ({"uniform": [1.0]}, "not the ends of a range in here: got .*, expected two ascending numbers"),
        ({"uniform": [2.0, 1.0]}, "two ascending numbers"),
        ({"uniform": [1.0, math.nan]}, "two ascending numbers"),
        ({"log_uniform": [0.0, 1.0]}, "two ascending numbers above 0"),
        ({"uniform": [0.0, 1.0], "log_uniform": [1.0, 2.0]}, "not one range"),
        ({}, "not one range"),
    ],
)
def test_what_is_no_range_is_refused(axis: dict[str, list[float]], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check_range(axis, "here")
