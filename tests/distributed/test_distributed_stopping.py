"""Two processes as `srun` or torchrun starts them: how they end, and that nobody else writes where they do."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from distributed_work import WORDS

from peace.cli import main
from peace.config import compose, run_directory
from peace.training.fit import CHECKPOINT
from peace.training.place import find_place

ENDLESS = [*WORDS, "trainer.max_steps=1000000", "trainer.checkpoint_every=1", "trainer.devices=2"]
RUN = run_directory(compose("pretrain", ENDLESS))

Processes = list["subprocess.Popen[str]"]


@pytest.fixture
def pair(home: Path) -> Iterator[Processes]:
    """The first and the second process of a training that has begun and does not end by itself."""
    command = [sys.executable, "-m", "peace.cli", "pretrain", *ENDLESS]
    variables = find_place(2, 1, {}).variables()
    with ExitStack() as stack:
        processes = []
        for rank in "01":
            environment = {**os.environ, **variables, "LOCAL_RANK": rank}
            process = subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            stack.callback(process.communicate)
            stack.callback(process.kill)
            processes.append(process)
        while not (home / RUN / CHECKPOINT).exists():
            assert [process.poll() for process in processes] == [None, None], [p.communicate() for p in processes]
            time.sleep(0.1)
        yield processes


@pytest.mark.slow
def test_nobody_else_writes_where_they_do_and_only_the_first_says_that_it_was_stopped(
    pair: Processes, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for verb in ("pretrain", "embed"):
        assert main([verb, *ENDLESS, "trainer.devices=1"]) == 1
        assert capfd.readouterr().err == (
            f"peace: another process is writing to this run directory: {RUN}; "
            "run the same command again when it has ended\n"
        )
    for process in pair:
        process.send_signal(signal.SIGUSR1)
    (out, err), (other_out, other_err) = (process.communicate() for process in pair)
    assert [process.returncode for process in pair] == [130, 0], err + other_err
    steps = torch.load(home / RUN / CHECKPOINT, weights_only=True)["global_step"]
    assert f"peace: stopped at step {steps} of 1000000; run the same command again to go on\n" in err
    assert "stopped at step" not in other_err and out == other_out == ""
