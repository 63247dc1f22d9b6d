"""The DataModule: two views of each model of a batch, every batch a pure function of seed and step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import lightning as L
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from peace import seeding
from peace.augmentations import Augmentation, Kinship
from peace.augmentations.views import partners, view
from peace.errors import InputError
from peace.graph.stack import Stack, join
from peace.graph.weight_graph import WeightGraph
from peace.losses.pairs import Facts
from peace.models.loading import load_stacks
from peace.training.columns import labels, numbered, standardised
from peace.training.negatives import Couples
from peace.training.sampler import Sampler, SamplerConfig, groups_of
from peace.zoo.storage import Zoo, last_checkpoints, usable


@dataclass(frozen=True)
class Views:
    """Two views of N models.

    Attributes:
        pairs: One stack per architecture, the first views of n models, then the second ones: [2n, ...].
        targets: Regression targets of the models shown, in the order of the stacks. Shape: [2N, K].
        facts: What is known of the models of the N first views, of the whole batch also where this is one process's
            share.
        partners: Likewise of the second views; a pair's group is that of its first model.
        total: Models of the batch of which this is one process's share, None where it is whole.
    """

    pairs: list[Stack]
    targets: Tensor
    facts: Facts
    partners: Facts
    total: int | None = None

    def share(self, rank: int, world: int) -> "Views":
        """Returns the pairs at places rank, rank + world, ... of the batch; an architecture may have none of them."""
        if world == 1:
            return self
        pairs, kept, start = [], [], 0
        for stack in self.pairs:
            half = len(stack) // 2
            mine = torch.arange((rank - start) % world, half, world) if (rank - start) % world < half else None
            if mine is not None:
                pairs.append(stack.select(torch.cat([mine, mine + half])))
                kept += [2 * start + mine, 2 * start + mine + half]
            start += half
        return replace(self, pairs=pairs, targets=self.targets[torch.cat(kept)], total=start)

    def split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Returns first and second views of values in the order of the stacks. Shape: [2N, ...] -> [N, ...] twice."""
        halves = [part.chunk(2) for part in values.split([len(stack) for stack in self.pairs])]
        return torch.cat([first for first, _ in halves]), torch.cat([second for _, second in halves])


@dataclass(frozen=True)
class Probe:
    """Models of `val` for the health gauges.

    Attributes:
        stacks: Their weights.
        tasks: Number of each one's task. Shape: [G] int64.
        runs: Number of each one's run. Shape: [G] int64.
    """

    stacks: list[Stack]
    tasks: Tensor
    runs: Tensor


class ZooData(L.LightningDataModule):
    """Views of the `train` models of a zoo, and its `val` models for the gauges.

    Args:
        zoo: The zoo; models that diverged are left out.
        augmentations: How views differ.
        sampler: What a batch is.
        steps_per_epoch: Batches between two looks at `val`.
        seed: Seed of batches and views.
        targets: Columns of the manifest to regress on.
        label: Column of the manifest that the loss takes for weak labels.
        value: Column of the manifest that the loss weights pairs by.
    """

    def __init__(
        self,
        zoo: Zoo,
        augmentations: Sequence[Augmentation],
        sampler: SamplerConfig,
        steps_per_epoch: int,
        seed: int,
        targets: Sequence[str] = (),
        label: str | None = None,
        value: str | None = None,
    ) -> None:
        super().__init__()
        self.zoo, self.augmentations, self.seed = zoo, list(augmentations), seed
        self.steps_per_epoch = steps_per_epoch
        self.stacks, self.rows = _by_graph(*load_stacks(zoo, _split(zoo, usable(zoo.rows), "train")))
        self.targets = standardised(self.rows, targets, "regression target")
        self.kinship = Kinship(
            numbered(self.rows["run_id"]), numbered(self.rows["recipe"]), torch.tensor(self.rows["epoch"].tolist())
        )
        self.facts = Facts(
            groups_of(self.kinship, sampler.distinct),
            labels(self.rows, label),
            standardised(self.rows, [value] if value else [], "loss.value").sum(1),
        )
        self.sampler = self._sampler(sampler)

    def _sampler(self, config: SamplerConfig) -> Sampler:
        sizes = torch.cat([torch.full((len(stack),), _weights(stack)) for stack in self.stacks])
        if config.weights and int(sizes.max()) > config.weights:
            largest = self.rows["id"].iloc[int(sizes.argmax())]
            raise InputError(f"model '{largest}' is larger than a batch may be", where="'sampler.weights'",
                             got=config.weights, expected=f"at least {int(sizes.max())}")  # fmt: skip
        couples = Couples(self.rows, config.negatives)
        return Sampler(self.kinship, config, self.seed, couples if couples.shares else None, sizes)

    @cached_property
    def _starts(self) -> Tensor:
        """The first model of each stack, and the end of the last."""
        return torch.tensor([0] + [len(stack) for stack in self.stacks]).cumsum(0)

    def views(self, step: int) -> Views:
        """Returns the batch of one step."""
        models = self.sampler.batch(step)
        generator = seeding.generator(self.seed, "views", step)
        others = partners(models, self.kinship, self.augmentations, generator)
        pairs, shown = [], []
        # Models come in ascending order, so that those of one architecture stand side by side.
        for place in torch.bucketize(models, self._starts[1:], right=True).unique().tolist():
            stack, first, last = self.stacks[place], self._starts[place], self._starts[place + 1]
            here = (models >= first) & (models < last)
            sides = [stack.select(side[here] - first) for side in (models, others)]
            pairs.append(join([view(side, self.augmentations, generator) for side in sides]))
            shown += [models[here], others[here]]
        facts = self.facts.select(models)
        known = replace(self.facts.select(others), groups=facts.groups)
        return Views(pairs, self.targets[torch.cat(shown)], facts, known)

    def train_dataloader(self) -> "Steps":
        """Returns the loader of the batches from where training stands."""
        trainer: L.Trainer = self.trainer  # type: ignore[assignment]
        # Every process draws the whole batch, so that what is drawn does not depend on how many there are.
        return Steps(
            lambda step: self.views(step).share(trainer.global_rank, trainer.world_size),
            self.steps_per_epoch,
            lambda: trainer.global_step,
        )

    def val_dataloader(self) -> DataLoader[Probe]:
        """Returns one batch: all `val` models, each run by its last checkpoint."""
        stacks, rows = load_stacks(self.zoo, last_checkpoints(_split(self.zoo, usable(self.zoo.rows), "val")))
        probe = Probe(stacks, numbered(rows["task"]), numbered(rows["run_id"]))
        return DataLoader([probe], batch_size=None)  # type: ignore[arg-type]

    def transfer_batch_to_device(
        self, batch: Views | Probe, device: torch.device, dataloader_idx: int
    ) -> Views | Probe:
        """Returns the batch on the device."""
        if isinstance(batch, Views):
            pairs = [stack.to(device) for stack in batch.pairs]
            facts, known = batch.facts.to(device), batch.partners.to(device)
            return Views(pairs, batch.targets.to(device), facts, known, batch.total)
        return Probe([stack.to(device) for stack in batch.stacks], batch.tasks.to(device), batch.runs.to(device))


class Steps:
    """A loader that goes on from the trainer's step wherever it is asked for an iterator, so that it has no state.

    Args:
        batch: Step -> batch.
        length: Steps in an epoch.
        step: Where training stands.
    """

    def __init__(self, batch: Callable[[int], Views], length: int, step: Callable[[], int]) -> None:
        self.batch, self.length, self.step = batch, length, step

    def __len__(self) -> int:
        """Returns the number of steps in a whole epoch."""
        return self.length

    def __iter__(self) -> Iterator[Views]:
        """Yields the batches from the current step to the end of its epoch."""
        start = self.step()
        for step in range(start, start + self.length - start % self.length):
            yield self.batch(step)

    def state_dict(self) -> dict[str, int]:
        """Returns nothing: tells Lightning that the loader can go on in the middle of an epoch."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Takes nothing."""


def _split(zoo: Zoo, rows: pd.DataFrame, split: str) -> pd.DataFrame:
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


def _weights(stack: Stack) -> int:
    """Weights and biases of each model."""
    return sum(tensor[0].numel() for tensor in (*stack.weights, *stack.biases) if tensor is not None)
