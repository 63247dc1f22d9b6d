"""A training that Slurm takes from the processor goes on where it was, and ends as if nothing had happened."""

import re
from pathlib import Path

import pytest
import torch
from slurm_home import same
from slurm_story import Story

# Seed 0 lost its processor to `scontrol requeue`, seed 1 to its time limit.
preempted = pytest.mark.parametrize("seed", [0, 1], ids=["requeue", "time limit"])


def run(checkpoint: Path | None) -> Path:
    assert checkpoint
    return checkpoint.parent


@preempted
def test_it_was_stopped_in_the_middle_of_an_epoch_and_started_again(story: Story, seed: int) -> None:
    step = story.stopped_at[seed]
    assert 0 < step < 60
    job = next(text for text in story.ended.split("\n\n") if f"ArrayJobId=2 ArrayTaskId={seed + 2} " in text)
    assert "Restarts=1 " in job and "JobState=COMPLETED " in job
    (log,) = [story.home.path / line.log for line in story.failed if line.job == f"2_{seed + 2}"]
    assert re.findall(r"stopped at step (\d+) of 90", log.read_text()) == [str(step)]
    parts = [path.name for path in sorted((run(story.home.checkpoint(seed)) / "logs").iterdir())]
    assert parts == ["from_step_000000", f"from_step_{step:06d}"]


@preempted
def test_its_last_checkpoint_is_that_of_a_training_that_never_stopped(story: Story, seed: int) -> None:
    found, expected = (
        torch.load(run(home.checkpoint(seed)) / "last.ckpt", weights_only=True)
        for home in (story.home, story.reference)
    )
    assert expected["global_step"] == 90
    assert same(found["state_dict"], expected["state_dict"])
    assert same(found["optimizer_states"], expected["optimizer_states"])
    assert same(found["lr_schedulers"], expected["lr_schedulers"])


@preempted
def test_its_embedder_is_bit_identical(story: Story, seed: int) -> None:
    found, expected = (
        (run(home.checkpoint(seed)) / "embedder" / "embedder.safetensors").read_bytes()
        for home in (story.home, story.reference)
    )
    assert found == expected
