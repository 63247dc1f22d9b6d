"""The models of one split in memory, and two views of some of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from peace.augmentations import Augmentation, Kinship
from peace.augmentations.views import partners, view
from peace.errors import InputError
from peace.graph.stack import Stack, join
from peace.graph.weight_graph import WeightGraph
from peace.losses.pairs import Facts
from peace.models.loading import load_stacks
from peace.training.columns import labels, numbered, standardised
from peace.training.sampler import groups_of
from peace.zoo.storage import Zoo, usable


@dataclass(frozen=True)
class Views:
    """Two views of N models.

    Attributes:
        pairs: One stack per architecture, the first views of n models, then the second ones: [2n, ...].
        originals: What a decoder should make of them, see `augmentations.views.view`.
        targets: Regression targets of the models shown, in the order of the stacks. Shape: [2N, K].
        facts: What is known of the models of the N first views, of the whole batch also where this is one process's
            share.
        partners: Likewise of the second views; a pair's group is that of its first model.
        total: Models of the batch of which this is one process's share, None where it is whole.
    """

    pairs: list[Stack]
    originals: list[Stack]
    targets: Tensor
    facts: Facts
    partners: Facts
    total: int | None = None

    def share(self, rank: int, world: int) -> "Views":
        """Returns the pairs at places rank, rank + world, ... of the batch; an architecture may have none of them."""
        if world == 1:
            return self
        pairs, originals, kept, start = [], [], [], 0
        for stack, original in zip(self.pairs, self.originals, strict=True):
            half = len(stack) // 2
            mine = torch.arange((rank - start) % world, half, world) if (rank - start) % world < half else None
            if mine is not None:
                both = torch.cat([mine, mine + half])
                pairs.append(stack.select(both))
                originals.append(original.select(both))
                kept.append(2 * start + both)
            start += half
        return replace(self, pairs=pairs, originals=originals, targets=self.targets[torch.cat(kept)], total=start)

    def split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Returns first and second views of values in the order of the stacks. Shape: [2N, ...] -> [N, ...] twice."""
        halves = [part.chunk(2) for part in values.split([len(stack) for stack in self.pairs])]
        return torch.cat([first for first, _ in halves]), torch.cat([second for _, second in halves])


@dataclass(frozen=True)
class Pool:
    """G models, those of equal graphs stacked.

    Attributes:
        stacks: Their weights.
        rows: Of the manifest, in the order of the stacks.
        kinship: Who is related to whom.
        facts: What is known of each.
        targets: Regression targets. Shape: [G, K].
    """

    stacks: list[Stack]
    rows: pd.DataFrame
    kinship: Kinship
    facts: Facts
    targets: Tensor

    @classmethod
    def of(
        cls, zoo: Zoo, split: str, distinct: str, targets: Sequence[str], label: str | None, value: str | None
    ) -> "Pool":
        """Returns the usable models of a split, targets and values standardised over them.

        Args:
            zoo: Where they are.
            split: `train` or `val`.
            distinct: What models share that are no negatives of each other, see `groups_of`.
            targets: Columns of the manifest to regress on.
            label: Column of the manifest that the loss takes for weak labels.
            value: Column of the manifest that the loss weights pairs by.

        Raises:
            InputError: There is no model, or a column is no column of numbers or labels.
        """
        stacks, rows = _by_graph(*load_stacks(zoo, in_split(zoo, split)))
        kinship = Kinship(numbered(rows["run_id"]), numbered(rows["recipe"]), torch.tensor(rows["epoch"].tolist()))
        facts = Facts(
            groups_of(kinship, distinct),
            labels(rows, label),
            standardised(rows, [value] if value else [], "loss.value").sum(1),
        )
        return cls(stacks, rows, kinship, facts, standardised(rows, targets, "regression target"))

    @cached_property
    def starts(self) -> Tensor:
        """The first model of each stack, and the end of the last."""
        return torch.tensor([0] + [len(stack) for stack in self.stacks]).cumsum(0)

    def views(self, models: Tensor, augmentations: Sequence[Augmentation], generator: torch.Generator) -> Views:
        """Returns two views of each of these models, which are in ascending order."""
        others = partners(models, self.kinship, augmentations, generator)
        pairs, originals, shown = [], [], []
        # Models come in ascending order, so that those of one architecture stand side by side.
        for place in torch.bucketize(models, self.starts[1:], right=True).unique().tolist():
            stack, first, last = self.stacks[place], self.starts[place], self.starts[place + 1]
            here = (models >= first) & (models < last)
            sides = [stack.select(side[here] - first) for side in (models, others)]
            seen, original = zip(*(view(side, augmentations, generator) for side in sides), strict=True)
            pairs.append(join(seen))
            originals.append(join(original))
            shown += [models[here], others[here]]
        facts = self.facts.select(models)
        known = replace(self.facts.select(others), groups=facts.groups)
        return Views(pairs, originals, self.targets[torch.cat(shown)], facts, known)


def in_split(zoo: Zoo, split: str) -> pd.DataFrame:
    """Returns the rows of the usable models of a split.

    Raises:
        InputError: There is none.
    """
    rows = usable(zoo.rows)
    found = rows[rows["split"] == split]
    if found.empty:
        raise InputError(
            f"the zoo has no usable model in '{split}'", where=zoo.folder, got="0", expected="at least one"
        )
    return found


def _by_graph(stacks: Sequence[Stack], rows: pd.DataFrame) -> tuple[list[Stack], pd.DataFrame]:
    """Stacks of equal graphs as one, whatever else their architectures differ in, and the rows in their order."""
    places: dict[WeightGraph, list[int]] = {}
    for place, stack in enumerate(stacks):
        places.setdefault(stack.graph, []).append(place)
    ends = np.cumsum([len(stack) for stack in stacks])
    joined = [join([stacks[place] for place in group]) for group in places.values()]
    ordered = [rows[ends[place] - len(stacks[place]) : ends[place]] for group in places.values() for place in group]
    return joined, pd.concat(ordered, ignore_index=True)
