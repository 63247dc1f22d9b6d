"""The DataModule: two views of each model of a batch, every batch a pure function of seed and step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from peace import seeding
from peace.augmentations import Augmentation
from peace.errors import InputError
from peace.graph.stack import Stack
from peace.models.loading import load_stacks
from peace.training.columns import numbered
from peace.training.negatives import Couples
from peace.training.pool import Pool, Views, in_split
from peace.training.sampler import Sampler, SamplerConfig, shares_of_runs
from peace.zoo.storage import Zoo, last_checkpoints


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
        decoded: How the views differ that a decoder learns from, None where it learns from those that are contrasted.
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
        decoded: Sequence[Augmentation] | None = None,
    ) -> None:
        super().__init__()
        self.zoo, self.augmentations, self.decoded, self.seed = zoo, list(augmentations), decoded, seed
        self.steps_per_epoch = steps_per_epoch
        self.pool = partial(Pool.of, zoo, distinct=sampler.distinct, targets=targets, label=label, value=value)
        self.train = self.pool("train")
        self.sampler = self._sampler(sampler)

    def _sampler(self, config: SamplerConfig) -> Sampler:
        sizes = torch.cat([torch.full((len(stack),), _weights(stack)) for stack in self.train.stacks])
        if config.weights and int(sizes.max()) > config.weights:
            largest = self.train.rows["id"].iloc[int(sizes.argmax())]
            raise InputError(f"model '{largest}' is larger than a batch may be", where="'sampler.weights'",
                             got=config.weights, expected=f"at least {int(sizes.max())}")  # fmt: skip
        couples = Couples(self.train.rows, config.negatives)
        return Sampler(self.train.kinship, config, self.seed, couples if couples.shares else None, sizes)

    def views(self, step: int) -> Views:
        """Returns the batch of one step."""
        generator = seeding.generator(self.seed, "views", step)
        return self.train.views(self.sampler.batch(step), self.augmentations, generator, self.decoded)

    def looks(self, count: int) -> list[Views]:
        """Returns the same views of the same `val` models at every call, batches as large as those of training.

        Args:
            count: How many models, at most.
        """
        val = self.pool("val")
        generator = seeding.generator(self.seed, "looks")
        if per_run := self.sampler.per_run:
            chosen = shares_of_runs(val.kinship.runs, per_run, count, generator)
        else:
            chosen = torch.randperm(len(val.rows), generator=generator)[:count]
        return [val.views(models.sort().values, self.augmentations, generator, self.decoded)
                for models in chosen.split(self.sampler.size)]  # fmt: skip

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
        stacks, rows = load_stacks(self.zoo, last_checkpoints(in_split(self.zoo, "val")))
        probe = Probe(stacks, numbered(rows["task"]), numbered(rows["run_id"]))
        return DataLoader([probe], batch_size=None)  # type: ignore[arg-type]

    def transfer_batch_to_device(
        self, batch: Views | Probe, device: torch.device, dataloader_idx: int
    ) -> Views | Probe:
        """Returns the batch on the device."""
        if isinstance(batch, Views):
            pairs, decoded, originals = (
                None if part is None else [stack.to(device) for stack in part]
                for part in (batch.pairs, batch.decoded, batch.originals)
            )
            facts, known = batch.facts.to(device), batch.partners.to(device)
            return Views(pairs, decoded, originals, batch.targets.to(device), facts, known, batch.total)
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


def _weights(stack: Stack) -> int:
    """Weights and biases of each model."""
    return sum(tensor[0].numel() for tensor in (*stack.weights, *stack.biases) if tensor is not None)
