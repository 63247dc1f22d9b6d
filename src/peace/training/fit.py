"""Training of an embedder in a run directory: starts, or goes on where it was stopped."""

import logging
import pickle
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from pydantic import PositiveInt
from torch import nn

from peace.errors import InputError, PeaceError
from peace.interruption import Interrupted, stop_requests
from peace.tracking.tell import UNTRACKED, Tracked
from peace.training.callbacks import Checkpointing
from peace.training.data import ZooData
from peace.training.logger import TrackedLogger
from peace.training.module import Contrastive
from peace.training.selection import Selection

CHECKPOINT = "last.ckpt"


@dataclass(frozen=True)
class TrainerConfig:
    """How long and on what to train.

    Attributes:
        max_steps: Optimiser steps.
        steps_per_epoch: Steps between two looks at `val`.
        precision: `32-true` or `bf16-mixed`.
        accelerator: `auto`, `cpu` or `gpu`.
        devices: Processes on each machine, one for each GPU or, on CPU, as many as wanted. They share each batch, and
            their number changes results by no more than rounding, unless there is dropout, which each draws for itself.
        num_nodes: Machines.
        patience: Looks at `val` without a better loss after which training ends, the embedder then being the one that
            had the best; null trains to the end and takes the last.
        val_models: How many models of `val` are then looked at, at most.
        checkpoint_every: Steps between two checkpoints.
        log_every: Steps between two logged losses.
        progress: Whether to show a progress bar on a terminal.
    """

    max_steps: PositiveInt = 10_000
    steps_per_epoch: PositiveInt = 100
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: PositiveInt = 1
    num_nodes: PositiveInt = 1
    patience: PositiveInt | None = None
    val_models: PositiveInt = 2048
    checkpoint_every: PositiveInt = 200
    log_every: PositiveInt = 10
    progress: bool = True


class Ended(NamedTuple):
    """How a training ended.

    Attributes:
        steps: Steps that it took, before it was interrupted too.
        device: The kind of device used, None where nothing was left to train.
    """

    steps: int
    device: str | None


def fit(
    module: Contrastive,
    data: ZooData,
    config: TrainerConfig,
    run: Path,
    tracked: Tracked = UNTRACKED,
    others: AbstractContextManager[None] | None = None,
) -> Ended:
    """Trains a module to its end and returns how it ended.

    It goes on from the run directory's checkpoint if there is one. The end is the last step, or with `patience` where
    the loss on `val` no longer falls; then the module's embedder is the best there was.

    Args:
        module: What is trained, in place.
        data: Its batches.
        config: How long and on what.
        run: The run directory; checkpoint and logs go there.
        tracked: Who is told of losses and gauges, beside the CSV files.
        others: What holds the other processes of the training while it lasts, see `together`.

    Raises:
        InputError: The checkpoint cannot be read, or is of another embedder, or there are fewer models in a batch than
            processes, or not as many devices as asked for, or the head has batch normalisation and there are several.
        Interrupted: A stop was asked for; the checkpoint is written.
        PeaceError: There is `patience`, and no finite loss on `val`.
    """
    checkpoint = run / CHECKPOINT
    selection = Selection(config.steps_per_epoch, config.patience, config.val_models) if config.patience else None
    start = _restore(module, selection, checkpoint)
    if _over(start, selection, config):
        _choose(module, selection)
        return Ended(start, None)
    _check_devices(module, data, config)
    with stop_requests() as stop, others or nullcontext(), _quiet():
        trainer = L.Trainer(
            max_epochs=-1,
            max_steps=config.max_steps,
            precision=config.precision,
            accelerator=config.accelerator,
            **_processes(config),
            logger=_loggers(run, start, tracked),
            callbacks=[*([selection] if selection else []), *_callbacks(config, checkpoint, stop)],
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=_shown(config),
            log_every_n_steps=min(config.log_every, config.steps_per_epoch),
            num_sanity_val_steps=0,
            default_root_dir=run,
        )
        trainer.fit(module, data, ckpt_path=checkpoint if start else None, weights_only=True)
        if not _over(trainer.global_step, selection, config):
            raise Interrupted(
                f"stopped at step {trainer.global_step} of {config.max_steps}; run the same command again to go on"
            )
        _choose(module, selection)
        return Ended(trainer.global_step, trainer.strategy.root_device.type)


def _over(step: int, selection: Selection | None, config: TrainerConfig) -> bool:
    return step >= config.max_steps or (selection is not None and selection.over)


def _choose(module: Contrastive, selection: Selection | None) -> None:
    if selection is not None:
        if not selection.weights:
            raise PeaceError("the loss on val was never finite; lower optimizer.learning_rate and train again")
        module.embedder.load_state_dict(selection.weights)


@contextmanager
def _quiet() -> Iterator[None]:
    """Holds a block in which Lightning gives no advice that does not apply."""
    for part in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(part).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # Batches are views of a zoo in memory; worker processes would copy it without being faster.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # Every process looks at all of `val` and finds the same.
        warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
        # The new name of the setting is not known to torch 2.11.
        warnings.filterwarnings("ignore", message=".*`broadcast_buffers` is deprecated.*")
        # Where Slurm is installed, it is advised to everybody.
        warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
        yield


def _check_devices(module: Contrastive, data: ZooData, config: TrainerConfig) -> None:
    on_gpu = config.accelerator == "gpu" or (config.accelerator == "auto" and torch.cuda.is_available())
    if on_gpu and (found := torch.cuda.device_count()) < config.devices:
        raise InputError("not as many GPUs as asked for", where="'trainer.devices'", got=found,
                         expected=config.devices, do="set trainer.accelerator=cpu, or ask Slurm for GPUs by the node, "
                         "not by the task")  # fmt: skip
    models, processes = data.sampler.least, config.devices * config.num_nodes
    if models < processes:
        raise InputError("a batch has fewer models than there are processes to share it", got=models,
                         expected=f"at least {processes}", do="lower trainer.devices")  # fmt: skip
    # Each process would take means over its own share, and end with statistics of its own.
    if processes > 1 and any(isinstance(part, nn.BatchNorm1d) for part in module.embedder.head):
        raise InputError("batch normalisation is of a whole batch, which processes share", where="'head.batch_norm'",
                         got=f"true with {processes} processes", do="train with one, or set it to false")  # fmt: skip


def _processes(config: TrainerConfig) -> dict[str, object]:
    """Lightning's arguments for how many train together, which never start any process: that is done in `together`."""
    several = config.devices * config.num_nodes > 1
    return {
        "devices": config.devices,
        "num_nodes": config.num_nodes,
        # A process may have no model of an architecture, so that some parameters get no gradient there. It also keeps
        # the order in which gradients are summed the same from the first step on, which a resumed run relies on.
        # Buffers are the same everywhere without being sent: each process fills them from the joint batch.
        "strategy": DDPStrategy(find_unused_parameters=True, broadcast_buffers=False) if several else "auto",
        "use_distributed_sampler": False,
        "plugins": [LightningEnvironment()],
    }


def _restore(module: Contrastive, selection: Selection | None, checkpoint: Path) -> int:
    """Loads a checkpoint's weights, if there is one, and returns the number of steps that it has done."""
    if not checkpoint.is_file():
        return 0
    try:
        content = torch.load(checkpoint, weights_only=True, map_location="cpu", mmap=True)
        module.load_state_dict(content["state_dict"])
        if selection is not None:
            selection.load_state_dict(content["callbacks"][selection.state_key])
        return int(content["global_step"])
    except pickle.UnpicklingError as error:
        # Torch's own message advises to load the file in a way that would run what it contains.
        got, cause = "something else than tensors and numbers", error
    except (OSError, RuntimeError, KeyError, EOFError, TypeError, ValueError) as error:
        got, cause = str(error).splitlines()[0].rstrip(".:"), error
    raise InputError("cannot read the checkpoint", where=checkpoint, got=got,
                     do="delete it to train from the start") from cause  # fmt: skip


def _shown(config: TrainerConfig) -> bool:
    return config.progress and sys.stderr.isatty()


def _callbacks(config: TrainerConfig, checkpoint: Path, stop: object) -> list[L.Callback]:
    callbacks: list[L.Callback] = [Checkpointing(checkpoint, config.checkpoint_every, stop)]  # type: ignore[arg-type]
    return [*callbacks, TQDMProgressBar()] if _shown(config) else callbacks


def _loggers(run: Path, start: int, tracked: Tracked) -> list[Logger]:
    """CSV files, of which each part of a run writes its own and deletes none, and W&B if it is on."""
    csv = CSVLogger(run, name="logs", version=f"from_step_{start:06d}")
    return [csv, TrackedLogger(tracked)] if tracked else [csv]


def last_gauges(run: Path) -> dict[str, float]:
    """Returns the last value of each gauge that a run directory's CSV files hold."""
    parts = [pd.read_csv(path) for path in sorted(run.glob("logs/*/metrics.csv"))]
    rows = pd.concat(parts).filter(like="val/").dropna(how="all") if parts else pd.DataFrame()
    return {str(name): float(value) for name, value in (rows.iloc[-1] if len(rows) else rows).items()}
