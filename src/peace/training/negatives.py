"""Which models stand in a batch because they are negatives of a certain kind for each other (paper b)."""

from dataclasses import dataclass
from typing import Annotated

import pandas as pd
import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from peace.errors import InputError
from peace.training.columns import numbered, numbers

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class NegativesConfig:
    """Shares of a batch that are couples: two models, each a negative of the given kind for the other.

    What the shares leave is drawn uniformly. A share is cut to whole couples.

    Attributes:
        hard: Same task and architecture, another `corruption`: clean, noisy or shuffled labels, backdoor, adversarial
            training.
        other_performance: Same task and architecture, and performances at least `gap` apart.
        other_architecture: Same task, another architecture.
        other_task: Another task, whatever the architecture.
        performance: Column of the manifest that performance is.
        gap: In the column's own unit.
    """

    hard: Share = 0.0
    other_performance: Share = 0.0
    other_architecture: Share = 0.0
    other_task: Share = 0.0
    performance: str = "test_accuracy"
    gap: PositiveFloat = 0.2


_KINDS = {
    "hard": (["task", "architecture_config"], "corruption"),
    "other_performance": (["task", "architecture_config"], "performance"),
    "other_architecture": (["task"], "architecture_config"),
    "other_task": ([], "task"),
}
"""What the models of a couple share, and in what they differ; the rarest kind comes first."""


@dataclass(frozen=True)
class Kind:
    """One relation between models: of one cell, and at least a gap apart.

    Attributes:
        name: Of its share in the config.
        cells: Number of what the models of a couple share. Shape: [G] int64.
        values: Where the models of a couple differ. Shape: [G] float64.
        gap: By how much.
    """

    name: str
    cells: Tensor
    values: Tensor
    gap: float

    def related(self, model: Tensor, others: Tensor) -> Tensor:
        """Returns which of the others stand in the relation to a model. Shape: [], [N] -> [N] bool."""
        apart = (self.values[others] - self.values[model]).abs() >= self.gap
        return apart & (self.cells[others] == self.cells[model])

    def anchors(self) -> Tensor:
        """Returns which models stand in the relation to any other. Shape: [G] bool."""
        ends = torch.zeros(int(self.cells.max()) + 1, dtype=self.values.dtype)
        low, high = (
            ends.scatter_reduce(0, self.cells, self.values, how, include_self=False)[self.cells]
            for how in ("amin", "amax")
        )
        return torch.maximum(self.values - low, high - self.values) >= self.gap


class Couples:
    """Draws the couples of a batch.

    Args:
        rows: The models, rows of a manifest; what has no `corruption` counts as clean, `none`.
        config: The shares.

    Raises:
        InputError: The shares are more than the whole, the manifest lacks a column, or no two models stand in a
            relation that is asked for.
    """

    def __init__(self, rows: pd.DataFrame, config: NegativesConfig) -> None:
        shares = {name: getattr(config, name) for name in _KINDS}
        self.shares = {name: share for name, share in shares.items() if share > 0}
        if sum(self.shares.values()) > 1 + 1e-9:
            raise InputError("the shares of a batch are more than the whole", where="'sampler.negatives'",
                             got=round(sum(self.shares.values()), 6), expected="at most 1")  # fmt: skip
        self.kinds = [_kind(name, rows, config) for name in self.shares]
        self.anchors = [kind.anchors() for kind in self.kinds]
        for kind, anchors in zip(self.kinds, self.anchors, strict=True):
            if not anchors.any():
                raise _too_few(kind.name, "no two models of that kind")

    def wanted(self, size: int) -> dict[str, int]:
        """Returns the number of couples of each kind in a batch.

        Raises:
            InputError: A share is less than one couple.
        """
        counts = {name: int(share * size / 2 + 1e-9) for name, share in self.shares.items()}
        for name, count in counts.items():
            if count == 0:
                raise InputError(f"a share of {size} models is less than one couple", got=self.shares[name],
                                 where=f"'sampler.negatives.{name}'", expected=f"at least {2 / size:.3g}")  # fmt: skip
        return counts

    def draw(self, models: Tensor, size: int) -> dict[str, list[list[int]]]:
        """Returns the couples of each kind as places in a random order of models, fewer than wanted if it has no more.

        As the order is random, the first model that has a negative is a random one, and so is its first negative.

        Args:
            models: In random order, no two of which are of one recipe (or run). Shape: [N].
            size: Of the batch.
        """
        free = torch.ones(len(models), dtype=torch.bool)
        drawn: dict[str, list[list[int]]] = {}
        for kind, anchors in zip(self.kinds, self.anchors, strict=True):
            drawn[kind.name] = _couples(kind, models, anchors[models], free, self.wanted(size)[kind.name])
        return drawn

    def check(self, models: Tensor, size: int) -> None:
        """Refuses shares that a batch of these models cannot have; see `draw` for the arguments.

        Raises:
            InputError: A share is less than one couple, or a batch has fewer couples of a kind than asked for.
        """
        wanted = self.wanted(size)
        for name, couples in self.draw(models, size).items():
            if len(couples) < wanted[name]:
                raise _too_few(name, f"{len(couples)} couples", f"{wanted[name]} in a batch of {size}")


def _couples(kind: Kind, models: Tensor, anchors: Tensor, free: Tensor, count: int) -> list[list[int]]:
    """As many couples as there are, at most `count`; their places are no longer free."""
    couples: list[list[int]] = []
    for place in anchors.nonzero().flatten().tolist():
        if len(couples) == count:
            break
        related = kind.related(models[place], models) & free
        if free[place] and related.any():
            couples.append([place, int(related.int().argmax())])
            free[couples[-1]] = False
    return couples


def _kind(name: str, rows: pd.DataFrame, config: NegativesConfig) -> Kind:
    shared, differing = _KINDS[name]
    cells = rows.groupby(shared, sort=True).ngroup() if shared else pd.Series(0, index=rows.index)
    if differing == "performance":
        values, gap = numbers(rows, [config.performance], "sampler.negatives.performance")[:, 0], config.gap
    elif differing not in rows:
        values, gap = torch.zeros(len(rows), dtype=torch.float64), 1.0
    else:
        # Numbers of names are at least 1 apart.
        values, gap = numbered(rows[differing].fillna("none")).double(), 1.0
    return Kind(name, torch.tensor(cells.tolist()), values, gap)


def _too_few(name: str, got: str, expected: str = "some") -> InputError:
    return InputError("not enough negatives", where=f"'sampler.negatives.{name}'", got=got, expected=expected,
                      do="lower the share, or train on a zoo that has more of them")  # fmt: skip
