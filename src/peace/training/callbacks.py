"""Checkpoints that a stop request, a crash or a requeue can go on from, bit for bit."""

import signal
from pathlib import Path

import lightning as L
from torch import Tensor

from peace.atomic import replacing
from peace.interruption import StopRequest


class Checkpointing(L.Callback):
    """Writes `last.ckpt` every so many steps, at the end, and where a stop was asked for, which also ends training.

    Args:
        path: The checkpoint.
        every: Steps between two writes.
        stop: Whether a stop was asked for.
    """

    def __init__(self, path: Path, every: int, stop: StopRequest) -> None:
        self.path, self.every, self.stop = path, every, stop

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Takes SIGTERM back from Lightning, which would leave without a checkpoint and with exit code 0."""
        if signal.getsignal(signal.SIGINT) == self.stop.ask:
            signal.signal(signal.SIGTERM, self.stop.ask)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Tensor, batch: object, batch_idx: int
    ) -> None:
        """Writes if it is time to or training ends; the step, its optimiser and its schedule are complete here."""
        # A signal may reach the processes of a training at different steps, or only one of them: all stop together. One
        # that comes while they agree is for the next step, and must be neither acted on alone nor forgotten.
        stopping = trainer.strategy.reduce_boolean_decision(self.stop.asked, all=False)
        done = trainer.global_step >= trainer.max_steps
        if stopping or done or trainer.should_stop or trainer.global_step % self.every == 0:
            self._save(trainer)
        if stopping and not done:
            trainer.should_stop = True
            if not trainer.is_last_batch:
                # Lightning looks at `val` before it stops, which takes time and which an uninterrupted run does not.
                trainer.limit_val_batches = 0

    def _save(self, trainer: L.Trainer) -> None:
        """All processes take part in saving; the first one writes."""
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.path)
            return
        with replacing(self.path) as path:
            trainer.save_checkpoint(path)
