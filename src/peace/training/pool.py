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
        decoded: Views that a decoder learns from, one of each model: [n, ...]; None where it learns from the pairs.
        originals: What a decoder should make of the views that it learns from, see `augmentations.views.view`.
        targets: Regression targets of the models shown, in the order of the stacks. Shape: [2N, K].
        facts: What is known of the models of the N first views, of the whole batch also where this is one process's
            share.
        partners: Likewise of the second views; a pair's group is that of its first model.
        total: Models of the batch of which this is one process's share, None where it is whole.
    """

    pairs: list[Stack]
    decoded: list[Stack] | None
    originals: list[Stack]
    targets: Tensor
    facts: Facts
    partners: Facts
    total: int | None = None

    def share(self, rank: int, world: int) -> "Views":
        """Returns the pairs at places rank, rank + world, ... of the batch; an architecture may have none of them."""
        if world == 1:
            return self
        kept, start = [], 0
        pairs, decoded, originals = list[Stack](), list[Stack](), list[Stack]()
        for place, stack in enumerate(self.pairs):
            half = len(stack) // 2
            mine = torch.arange((rank - start) % world, half, world) if (rank - start) % world < half else None
            if mine is not None:
                both = torch.cat([mine, mine + half])
                pairs.append(stack.select(both))
                originals.append(self.originals[place].select(both if self.decoded is None else mine))
                decoded += [] if self.decoded is None else [self.decoded[place].select(mine)]
                kept.append(2 * start + both)
            start += half
        own = None if self.decoded is None else decoded
        return replace(self, pairs=pairs, decoded=own, originals=originals, targets=self.targets[torch.cat(kept)],
                       total=start)  # fmt: skip

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

    def views(
        self,
        models: Tensor,
        augmentations: Sequence[Augmentation],
        generator: torch.Generator,
        decoded: Sequence[Augmentation] | None = None,
    ) -> Views:
        """Returns two views of each of these models, which are in ascending order.

        Args:
            models: Places in the pool. Shape: [N].
            augmentations: How the two views differ.
            generator: CPU generator.
            decoded: How the view differs that is decoded, None where the two are.
        """
        others = partners(models, self.kinship, augmentations, generator)
        pairs, originals = self._seen([models, others], augmentations, generator)
        own = None
        if decoded is not None:
            shown = partners(models, self.kinship, decoded, generator)
            own, originals = self._seen([shown], decoded, generator)
        order = self._places(models).repeat(2).argsort(stable=True)
        facts = self.facts.select(models)
        known = replace(self.facts.select(others), groups=facts.groups)
        return Views(pairs, own, originals, self.targets[torch.cat([models, others])[order]], facts, known)

    def _seen(
        self, sides: Sequence[Tensor], augmentations: Sequence[Augmentation], generator: torch.Generator
    ) -> tuple[list[Stack], list[Stack]]:
        """Views of models, one side after the other, and what a decoder should make of them.

        All sides have models of the same architectures in the same places. Shape of each stack: [sides x n, ...].
        """
        seen, originals, places = [], [], self._places(sides[0])
        # Models come in ascending order, so that those of one architecture stand side by side.
        for place in places.unique().tolist():
            stack, first, last = self.stacks[place], self.starts[place], self.starts[place + 1]
            here = places == place
            shown: Sequence[Stack] = [stack.select(side[here] - first) for side in sides]
            kinship = self.kinship.select(slice(first, last))
            for augmentation in augmentations:
                shown = augmentation.mix(shown, sides[0][here] - first, stack, kinship, generator)
            views, wholes = zip(*(view(side, augmentations, generator) for side in shown), strict=True)
            seen.append(join(views))
            originals.append(join(wholes))
        return seen, originals

    def _places(self, models: Tensor) -> Tensor:
        """The stack that each model is in. Shape: [N] -> [N]."""
        return torch.bucketize(models, self.starts[1:], right=True)


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
