import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from peace.datasets.images import load
from peace.datasets.tasks import Task, label_subsets
from peace.errors import InputError

LABELS = torch.tensor([5, 0, 3, 2, 0, 4, 1])


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("digits", ()),
        ("digits:0|3|4|7|9", ((0,), (3,), (4,), (7,), (9,))),
        ("digits:9|0", ((9,), (0,))),
        ("fashion_mnist:0,2,4|1,3,5", ((0, 2, 4), (1, 3, 5))),
        ("emnist-letters26:10,25|3", ((10, 25), (3,))),
    ],
)
def test_text_and_task_are_inverses(text: str, groups: tuple[tuple[int, ...], ...]) -> None:
    task = Task.parse(text)
    assert task == Task(text.partition(":")[0], groups)
    assert task.id == text and Task.parse(task.id) == task and hash(task) == hash(Task.parse(text))


def test_the_order_of_labels_in_a_group_says_nothing_and_that_of_groups_names_the_classes() -> None:
    assert Task.parse("digits:4,0,2|1") == Task.parse("digits:0,2,4|1")
    assert Task.parse("digits:1|0") != Task.parse("digits:0|1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read the task ''"),
        ("digits:", "cannot read the task"),
        ("digits:0||1", "cannot read the task"),
        ("digits:0|1|", "cannot read the task"),
        ("digits:0|-1", "cannot read the task"),
        ("digits:0 | 1", "cannot read the task"),
        ("digits:0|1:2", "cannot read the task"),
        ("digits:zero|1", "cannot read the task 'digits:zero|1': expected for instance"),
        ("digits:0|" + "9" * 5000, "cannot read the task"),
        ("digits:0|1|0", r"label 0 stands more than once in the task 'digits:0\|1\|0'"),
        ("digits:0,2|2,3", "label 2 stands more than once"),
        ("digits:3,4", "only one class"),
    ],
)
def test_other_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("zero|1", r"zero\|1")):
        Task.parse(text)


def test_groups_that_make_no_task_are_refused() -> None:
    with pytest.raises(InputError, match="a group without labels"):
        Task("digits", ((0,), ()))
    with pytest.raises(InputError, match="label -1 is negative"):
        Task("digits", ((0,), (-1,)))
    with pytest.raises(InputError, match="without spaces"):
        Task("two words", ((0,), (1,)))


@pytest.mark.parametrize(
    ("text", "indices", "targets"),
    [
        ("any", [0, 1, 2, 3, 4, 5, 6], [5, 0, 3, 2, 0, 4, 1]),
        ("any:0|3", [1, 2, 4], [0, 1, 0]),
        ("any:3|0", [1, 2, 4], [1, 0, 1]),
        ("any:0,2,4|1,5", [0, 1, 3, 4, 5, 6], [1, 0, 0, 0, 0, 1]),
    ],
)
def test_select_keeps_the_order_of_the_images(text: str, indices: list[int], targets: list[int]) -> None:
    found = Task.parse(text).select(LABELS, 6)
    assert [part.tolist() for part in found] == [indices, targets]
    assert all(part.dtype == torch.int64 for part in found)


def test_select_of_no_images_is_empty() -> None:
    indices, targets = Task.parse("any:0|3").select(LABELS[:0], 6)
    assert len(indices) == len(targets) == 0


def test_labels_that_the_data_set_lacks_are_refused() -> None:
    task = Task.parse("tetris:0|4")
    for use in (lambda: task.select(torch.zeros(1).long(), 4), lambda: task.n_classes(load("tetris")), task.tags):
        with pytest.raises(InputError, match=r"the data set lacks label 4 in the task 'tetris:0\|4': .*0..3"):
            use()


def test_number_of_classes() -> None:
    data = load("tetris")
    assert [Task.parse(text).n_classes(data) for text in ("tetris", "tetris:0|3", "tetris:0,1|2,3")] == [4, 2, 2]


def test_tags_name_the_data_set_and_its_used_classes() -> None:
    assert Task.parse("tetris").tags() == ("tetris", "I", "O", "T", "L")
    assert Task.parse("tetris:3|1").tags() == ("tetris", "L", "O")
    assert Task.parse("tetris:0,3|2").tags() == ("tetris", "I", "L", "T")


def test_classes_named_by_a_digit_share_their_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    x, y = np.arange(4, dtype=np.uint8).reshape(1, 2, 2), np.array([0])
    classes = np.array(["7", "10", "Bag"])
    np.savez(tmp_path / "images" / "mixed.npz", x_train=x, y_train=y, x_test=x, y_test=y, classes=classes)
    monkeypatch.setenv("PEACE_DATA", str(tmp_path))
    assert Task.parse("mixed").tags() == ("mixed", "digit-7", "10", "Bag")


@pytest.mark.parametrize(
    ("n_labels", "size", "count"),
    [(10, 5, 1), (10, 5, 7), (10, 5, 100), (10, 5, 252), (10, 3, 119), (26, 5, 60), (5, 5, 1), (4, 3, 4), (6, 2, 14)],
)
def test_subsets_are_distinct_sorted_and_balanced(n_labels: int, size: int, count: int) -> None:
    tasks = label_subsets("any", n_labels, size, count, seed=3)
    assert len(tasks) == len(set(tasks)) == count <= math.comb(n_labels, size)
    uses = Counter({label: 0 for label in range(n_labels)})
    for task in tasks:
        labels = [label for (label,) in task.groups]
        assert labels == sorted(set(labels)) and len(labels) == size and set(labels) <= set(range(n_labels))
        uses.update(labels)
    assert max(uses.values()) - min(uses.values()) <= 1 and sum(uses.values()) == count * size


def test_subsets_are_a_function_of_the_seed() -> None:
    drawn = [label_subsets("any", 10, 5, 20, seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("size", "count", "message"), [(1, 1, "size"), (11, 1, "size"), (5, 253, "1..252"), (5, 0, "count")]
)
def test_impossible_subsets_are_refused(size: int, count: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        label_subsets("any", 10, size, count, seed=0)
