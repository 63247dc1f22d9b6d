"""A training that Slurm takes from the processor goes on where it was, and ends as if nothing had happened."""

import re

import pytest
import torch
from slurm_story import Story

from bit_equal import same

pytestmark = pytest.mark.slow

# Which line of the manifest trained it; one lost its processor to `scontrol requeue`, the other to its time limit.
LINES = {"peace": 2, "narrow": 3}
preempted = pytest.mark.parametrize("method", LINES, ids=["requeue", "time limit"])


@preempted
def test_it_was_stopped_in_the_middle_of_an_epoch_and_started_again_once(story: Story, method: str) -> None:
    number, step = LINES[method], story.stopped_at[method]
    assert 0 < step < 30
    job = next(text for text in story.ended.split("\n\n") if f"ArrayJobId=2 ArrayTaskId={number} " in text)
    assert "Restarts=1 " in job and "JobState=COMPLETED " in job
    log = (story.home.path / story.failed[number - 1].log).read_text()
    assert re.findall(r"stopped at step (\d+) of 40", log) == [str(step)]


@preempted
def test_it_goes_on_in_the_same_run_of_weights_and_biases(story: Story, method: str) -> None:
    parts = [path.name for path in sorted((story.home.run(method) / "wandb").glob("offline-run-*"))]
    assert len(parts) == 2 and len({name.rpartition("-")[2] for name in parts}) == 1


@preempted
def test_its_last_checkpoint_is_that_of_a_training_that_never_stopped(story: Story, method: str) -> None:
    found, expected = (
        torch.load(home.run(method) / "last.ckpt", weights_only=True) for home in (story.home, story.reference)
    )
    assert expected["global_step"] == 40
    assert same(found["state_dict"], expected["state_dict"])
    assert same(found["optimizer_states"], expected["optimizer_states"])
    assert same(found["lr_schedulers"], expected["lr_schedulers"])


@preempted
def test_its_embedder_is_bit_identical(story: Story, method: str) -> None:
    found, expected = (
        (home.run(method) / "embedder" / "embedder.safetensors").read_bytes() for home in (story.home, story.reference)
    )
    assert found == expected
