import pytest
from pandas import DataFrame

from peace.errors import InputError
from peace.evaluation.protocols import protocols


def test_queries_are_told_apart_by_split_and_by_whether_training_saw_their_task() -> None:
    rows = DataFrame(
        {
            "task": ["a", "a", "b", "c", "b", None, "d", "b"],
            "split": ["train", "test", "test", "val", "train", "test", "test", "val"],
        },
        index=list("stuvwxyz"),
    )
    masks = protocols(rows)
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "seen": [False, True, True, False, False, False, False, False],
        "unseen": [False, False, False, False, False, False, True, False],
        "val": [False, False, False, False, False, False, False, True],
    }
    assert masks["seen"].dtype == bool


def test_protocols_without_queries_are_dropped() -> None:
    rows = DataFrame({"task": ["a", "b"], "split": ["train", "test"]})
    assert list(protocols(rows)) == ["unseen"]
    assert list(protocols(rows.assign(task="a"))) == ["seen"]
    assert protocols(rows.assign(split="val")) == {}
    assert protocols(rows.iloc[:0]) == {}


def test_a_missing_column_is_named() -> None:
    with pytest.raises(InputError, match="missing column 'split'"):
        protocols(DataFrame({"task": ["a"]}))
