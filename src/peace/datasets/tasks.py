"""Tasks: what a network is asked to tell apart, as classes made of a data set's labels."""

import math
import re
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from peace import seeding
from peace.datasets.images import ImageData, load
from peace.errors import InputError

_PATTERN = re.compile(r"([^:|,\s]+)(?::([0-9]{1,9}(?:[,|][0-9]{1,9})*))?")
_EXPECTED = "for instance digits, digits:0|3|4 (a subset) or digits:0,2,4|1,3,5 (a grouping)"


@dataclass(frozen=True)
class Task:
    """A classification task: class c is the union of the labels in `groups[c]`; images of other labels are left out.

    Args:
        dataset: The data set's name.
        groups: The labels of each class, sorted inside a group; no groups means all labels as they are.

    Raises:
        InputError: The name cannot stand in an id, there is only one group, or a group is empty or shares a label.
    """

    dataset: str
    groups: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        """Sorts the labels of each group, so that equal tasks are equal, and checks them."""
        if not re.fullmatch(r"[^:|,\s]+", self.dataset):
            raise InputError("a task's data set needs a name without spaces, colons, bars and commas", got=self.dataset)
        object.__setattr__(self, "groups", tuple(tuple(sorted(group)) for group in self.groups))
        labels = [label for group in self.groups for label in group]
        twice = [label for label, count in Counter(labels).items() if count > 1]
        where = f"the task '{self.id}'"
        if not all(self.groups):
            raise InputError("a group without labels", where=where, expected=_EXPECTED)
        if twice:
            raise InputError(f"label {twice[0]} stands more than once", where=where, do="let no two groups overlap")
        if labels and min(labels) < 0:
            raise InputError(f"label {min(labels)} is negative", where=where, expected=_EXPECTED)
        if len(self.groups) == 1:
            raise InputError("only one class", where=where, expected="at least two groups, with | between them")

    @classmethod
    def parse(cls, text: str) -> "Task":
        """Returns the task that `text` describes; `Task.parse(task.id) == task`.

        Args:
            text: `digits` (all classes), `digits:0|3|4` (a subset) or `digits:0,2,4|1,3,5` (a grouping).

        Raises:
            InputError: The text has another form, or its groups make no task.
        """
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise InputError(f"cannot read the task '{text}'", expected=_EXPECTED)
        dataset, classes = match.groups()
        groups = (group.split(",") for group in classes.split("|")) if classes else ()
        return cls(dataset, tuple(tuple(int(label) for label in group) for group in groups))

    @property
    def id(self) -> str:
        """The task as text: the data set, then the classes with `|` between and their labels with `,` between."""
        classes = "|".join(",".join(map(str, group)) for group in self.groups)
        return f"{self.dataset}:{classes}" if self.groups else self.dataset

    def n_classes(self, data: ImageData) -> int:
        """Returns the number of classes that a network for this task tells apart.

        Raises:
            InputError: The task names a label that the data set lacks.
        """
        return len(self._classes(len(data.classes)))

    def select(self, labels: Tensor, n_labels: int) -> tuple[Tensor, Tensor]:
        """Returns which images belong to the task, in their order, and the class of each.

        Args:
            labels: The data set's labels. Shape: [N] int64 in 0..n_labels - 1.
            n_labels: How many labels the data set has.

        Raises:
            InputError: The task names a label that the data set lacks.

        Shape:
            [N] -> indices [K] int64, targets [K] int64 in 0..C - 1.
        """
        class_of = torch.full((n_labels,), -1, dtype=torch.int64, device=labels.device)
        for index, group in enumerate(self._classes(n_labels)):
            class_of[list(group)] = index
        targets = class_of[labels]
        indices = (targets >= 0).nonzero().flatten()
        return indices, targets[indices]

    def tags(self) -> tuple[str, ...]:
        """Returns the words that a person would search for: the data set's name, then the names of its used classes.

        A class whose name is a single digit is called `digit-3`, the same in every data set of digits.

        Raises:
            InputError: The data set cannot be loaded or lacks a label.
        """
        names = load(self.dataset).classes
        used = [names[label] for group in self._classes(len(names)) for label in group]
        return self.dataset, *(f"digit-{name}" if re.fullmatch("[0-9]", name) else name for name in used)

    def _classes(self, n_labels: int) -> tuple[tuple[int, ...], ...]:
        largest = max((group[-1] for group in self.groups), default=-1)
        if largest >= n_labels:
            expected = f"labels 0..{n_labels - 1}"
            raise InputError(f"the data set lacks label {largest}", where=f"the task '{self.id}'", expected=expected)
        return self.groups or tuple((label,) for label in range(n_labels))


def label_subsets(dataset: str, n_labels: int, size: int, count: int, seed: int) -> list[Task]:
    """Returns `count` different tasks of `size` labels each; how often two labels are used differs by one at most.

    Subsets are drawn uniformly without replacement. While some label a is used at least twice more often than b, one
    subset trades a for b. A trade that makes a new subset always exists, as more of the subsets hold a without b than b
    without a, and each lowers the sum of squared uses, so this ends.

    Args:
        dataset: The data set's name.
        n_labels: How many labels it has.
        size: Labels in a subset.
        count: Number of subsets, at most the binomial coefficient of n_labels and size.
        seed: The same seed gives the same subsets in the same order.

    Raises:
        InputError: There are not that many subsets of that size.
    """
    where = f"label subsets of '{dataset}'"
    if not 2 <= size <= n_labels:
        raise InputError("impossible size", where=where, got=size, expected=f"2..{n_labels}")
    if not 1 <= count <= math.comb(n_labels, size):
        expected = f"1..{math.comb(n_labels, size)} subsets of {size} among {n_labels} labels"
        raise InputError("impossible count", where=where, got=count, expected=expected)
    generator = seeding.generator("label subsets", dataset, n_labels, size, seed)
    drawn: dict[frozenset[int], None] = {}
    while len(drawn) < count:
        drawn[frozenset(torch.randperm(n_labels, generator=generator)[:size].tolist())] = None
    groups = (tuple((label,) for label in sorted(subset)) for subset in _balanced(list(drawn), n_labels))
    return [Task(dataset, group) for group in groups]


def _balanced(subsets: list[frozenset[int]], n_labels: int) -> list[frozenset[int]]:
    subsets, taken = list(subsets), set(subsets)
    uses = [sum(label in subset for subset in subsets) for label in range(n_labels)]
    while max(uses) - min(uses) > 1:
        often, seldom = uses.index(max(uses)), uses.index(min(uses))
        trades = (
            (at, (old - {often}) | {seldom}) for at, old in enumerate(subsets) if often in old and seldom not in old
        )
        at, new = next((at, new) for at, new in trades if new not in taken)
        taken.symmetric_difference_update((subsets[at], new))
        subsets[at] = new
        uses[often] -= 1
        uses[seldom] += 1
    return subsets
