"""An experiment's training that is killed and started again ends with the same weights."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands_home import Peace

from peace.config import folder

WORDS = [
    "hyper_representations/table5_tetris_seed", "zoo.seeds=40", "zoo.epochs=4", "zoo.shard_size=40",
    "trainer.max_steps=60", "trainer.steps_per_epoch=10", "trainer.checkpoint_every=4", "trainer.val_models=64",
    "sampler.batch_size=16", "encoder.dropout=0.1", "tracking=none",
]  # fmt: skip
CROSSED = (
    "augmentation.crossover={probability: 0.25}",
    "decoder.augmentation={crossover: {probability: 1.0, share: 1.0}, permutation: {}}",
)
"""What the E_cD of table 5 (left) decodes."""


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the configs and experiments of the repository, and nothing else."""
    for name in ("configs", "experiments"):
        (tmp_path / name).symlink_to(folder(name))
    monkeypatch.setenv("PEACE_HOME", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pretrain(where: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "peace.cli", "pretrain", *WORDS, *words, f"paths.runs={where}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def weights(where: Path) -> str:
    (found,) = where.glob("hyper_representations/*/*/seed0/embedder/embedder.safetensors")
    return hashlib.sha256(found.read_bytes()).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), CROSSED], ids=["pairs", "views of its own"])
def test_the_hyper_representation_of_a_killed_training_is_that_of_an_uninterrupted_one(
    elsewhere: Path, peace: Peace, words: tuple[str, ...]
) -> None:
    assert peace("zoo", "train", "tetris_seed", *(word for word in WORDS if word.startswith("zoo."))).code == 0
    whole, killed = elsewhere / "whole", elsewhere / "killed"
    assert pretrain(whole, *words).wait() == 0
    process = pretrain(killed, *words)
    while not list(killed.glob("**/last.ckpt")):
        assert process.poll() is None, "it ended before it wrote a checkpoint"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not list(killed.glob("**/embedder.safetensors"))
    assert pretrain(killed, *words).wait() == 0
    assert len(list(killed.glob("**/logs/from_step_*"))) == 2, "it began anew"
    assert weights(killed) == weights(whole)
