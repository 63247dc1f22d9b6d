"""What a loss is given: projections of two views of each model, what is known of the models, and earlier ones."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Facts:
    """What is known of N models.

    Attributes:
        groups: Number of the recipe, or of the run, that a model shares with those that are no negatives of it.
            Shape: [N] int64.
        labels: Number of its weak label, such as its task; -1 where it has none. Shape: [N] int64.
        values: What it reached, such as its accuracy, standardised. Shape: [N].
    """

    groups: Tensor
    labels: Tensor
    values: Tensor

    def to(self, device: torch.device) -> "Facts":
        """Returns the facts on another device."""
        return Facts(self.groups.to(device), self.labels.to(device), self.values.to(device))

    def select(self, places: Tensor | slice) -> "Facts":
        """Returns the facts of the models at these places."""
        return Facts(self.groups[places], self.labels[places], self.values[places])


def concatenated(first: Facts, second: Facts) -> Facts:
    """Returns the facts of the first models, then those of the second ones."""
    parts = zip((first.groups, first.labels, first.values), (second.groups, second.labels, second.values), strict=True)
    return Facts(*map(torch.cat, parts))


@dataclass(frozen=True)
class Memory:
    """Models of earlier batches, see `Bank`.

    Attributes:
        vectors: Their projections at that time, of length 1, without gradient. Shape: [M, P].
        facts: What is known of them.
    """

    vectors: Tensor
    facts: Facts


@dataclass(frozen=True)
class Pairs:
    """Two views of N models.

    Attributes:
        first: Projections of the first views. Shape: [N, P].
        second: Projections of the second views. Shape: [N, P].
        facts: What is known of the models of the first views.
        memory: Models of earlier batches to tell them from, None where there is no bank.
        partners: What is known of the models of the second views, their groups being those of the first; None where
            both views are of one model.
    """

    first: Tensor
    second: Tensor
    facts: Facts
    memory: Memory | None = None
    partners: Facts | None = None

    @property
    def of_second(self) -> Facts:
        """What is known of the models of the second views."""
        return self.facts if self.partners is None else self.partners

    @property
    def of_all(self) -> Facts:
        """What is known of all views, first ones then second ones."""
        return concatenated(self.facts, self.of_second)
