"""The DataModule: two views of each model of a batch, every batch a pure function of seed and step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import lightning as L
import pandas as pd
import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.utils.data import DataLoader

from peace import seeding
from peace.augmentations import Augmentation, Kinship
from peace.augmentations.views import partners, view
from peace.errors import InputError
from peace.graph.stack import Stack, join
from peace.models.loading import load_stacks
from peace.training.sampler import Sampler
from peace.zoo.storage import Zoo, last_checkpoints, usable


@dataclass(frozen=True)
class Views:
    """Two views of N models.

    Attributes:
        pairs: One stack per architecture, the first views of n models, then the second ones: [2n, ...].
        targets: Regression targets of the models shown, in the order of the stacks. Shape: [2N, K].
        total: Models of the batch of which this is one process's share, None where it is whole.
    """

    pairs: list[Stack]
    targets: Tensor
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
        return Views(pairs, self.targets[torch.cat(kept)], start)

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
        batch_size: Models in a batch.
        distinct: What no two models of a batch share, see `Sampler`.
        steps_per_epoch: Batches between two looks at `val`.
        seed: Seed of batches and views.
        targets: Columns of the manifest to regress on.
    """

    def __init__(
        self,
        zoo: Zoo,
        augmentations: Sequence[Augmentation],
        batch_size: PositiveInt,
        distinct: str,
        steps_per_epoch: int,
        seed: int,
        targets: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.zoo, self.augmentations, self.seed = zoo, list(augmentations), seed
        self.batch_size, self.distinct, self.steps_per_epoch = batch_size, distinct, steps_per_epoch
        rows = usable(zoo.rows)
        self.stacks, self.rows = load_stacks(zoo, _split(zoo, rows, "train"))
        self.targets = _targets(self.rows, targets)
        self.kinship = Kinship(
            _numbered(self.rows["run_id"]), _numbered(self.rows["recipe"]), torch.tensor(self.rows["epoch"].tolist())
        )
        self.sampler = Sampler(self.kinship, batch_size, distinct, seed)  # type: ignore[arg-type]

    @cached_property
    def _starts(self) -> list[int]:
        """The first model of each stack."""
        return torch.tensor([0] + [len(stack) for stack in self.stacks]).cumsum(0).tolist()

    def views(self, step: int) -> Views:
        """Returns the batch of one step."""
        models = self.sampler.batch(step)
        generator = seeding.generator(self.seed, "views", step)
        others = partners(models, self.kinship, self.augmentations, generator)
        pairs, shown = [], []
        for stack, first, last in zip(self.stacks, self._starts, self._starts[1:], strict=False):
            here = (models >= first) & (models < last)
            if not here.any():
                continue
            sides = [stack.select(side[here] - first) for side in (models, others)]
            pairs.append(join([view(side, self.augmentations, generator) for side in sides]))
            shown += [models[here], others[here]]
        return Views(pairs, self.targets[torch.cat(shown)])

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
        probe = Probe(stacks, _numbered(rows["task"]), _numbered(rows["run_id"]))
        return DataLoader([probe], batch_size=None)  # type: ignore[arg-type]

    def transfer_batch_to_device(
        self, batch: Views | Probe, device: torch.device, dataloader_idx: int
    ) -> Views | Probe:
        """Returns the batch on the device."""
        if isinstance(batch, Views):
            return Views([stack.to(device) for stack in batch.pairs], batch.targets.to(device), batch.total)
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


def _numbered(column: pd.Series) -> Tensor:
    return torch.tensor(pd.factorize(column, sort=True)[0].tolist())


def _targets(rows: pd.DataFrame, names: Sequence[str]) -> Tensor:
    """Columns standardised over the rows; one that is constant becomes zero. Shape: [G, K]."""
    unknown = [name for name in names if name not in rows or not pd.api.types.is_numeric_dtype(rows[name])]
    if unknown:
        raise InputError("no such regression target", got=unknown, expected="numeric columns of the manifest")
    if not names:
        return torch.zeros(len(rows), 0)
    values = torch.tensor(rows[list(names)].to_numpy(dtype="float64"))
    spread = torch.where((values == values[0]).all(0), torch.inf, values.std(0, correction=0))
    return ((values - values.mean(0)) / spread).float()
