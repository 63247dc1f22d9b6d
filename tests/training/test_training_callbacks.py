"""What the processes of a training do with a stop request that comes while they agree whether there is one."""

import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from peace.interruption import StopRequest
from peace.training.callbacks import Checkpointing


class Trainer(SimpleNamespace):
    """A trainer at step 3 of 10, whose processes find that nobody asked before a signal reaches this one."""

    def __init__(self, stop: StopRequest, late: bool) -> None:
        super().__init__(global_step=3, max_steps=10, should_stop=False, is_last_batch=False, is_global_zero=True)
        self.stop, self.late, self.strategy, self.saved = stop, late, self, 0

    def reduce_boolean_decision(self, asked: bool, all: bool) -> bool:
        assert all is False
        if self.late:
            self.late = False
            self.stop.ask(signal.SIGUSR1, None)
        return asked

    def save_checkpoint(self, path: Path) -> None:
        path.touch()
        self.saved += 1


@pytest.mark.parametrize("late", [False, True])
def test_a_stop_is_acted_on_only_where_all_processes_know_of_it_and_never_forgotten(late: bool, tmp_path: Path) -> None:
    stop = StopRequest()
    trainer, callback = Trainer(stop, late), Checkpointing(tmp_path / "last.ckpt", 100, stop)
    if not late:
        stop.ask(signal.SIGUSR1, None)
    else:
        callback.on_train_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]
        assert (trainer.should_stop, trainer.saved, stop.asked) == (False, 0, True)
    callback.on_train_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]
    assert (trainer.should_stop, trainer.saved, trainer.limit_val_batches) == (True, 1, 0)


def test_a_process_that_no_signal_reached_stops_with_the_others(tmp_path: Path) -> None:
    stop = StopRequest()
    trainer = Trainer(stop, late=False)
    trainer.reduce_boolean_decision = lambda asked, all: True
    Checkpointing(tmp_path / "last.ckpt", 100, stop).on_train_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]
    # Nobody has pressed Ctrl-C here yet, so that the next time is not the second.
    assert (trainer.should_stop, trainer.saved, stop.asked) == (True, 1, False)
