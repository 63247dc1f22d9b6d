"""A folder with one tiny experiment, and what a person types there."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from peace.config import compose, folder, run_directory

EXPERIMENT = "tiny"

_ZOO = """
name: tiny
seed: 0
dataset: digits
subset_size: 3
subset_count: 4
held_out: 1
architectures: [{name: mlp, hidden: [16]}, {name: mlp, hidden: [8, 8]}]
activations: [relu]
optimizers: [adam]
initialisations: [kaiming_uniform]
learning_rates: [0.005]
seeds: 4
epochs: 2
checkpoints: [1, 2]
batch_size: 64
val_share: 0.25
test_share: 0.25
"""

# Every step leaves a checkpoint, so that a test sees that training has begun.
_TRAINER = """
max_steps: 40
steps_per_epoch: 30
precision: 32-true
accelerator: cpu
devices: 1
num_nodes: 1
checkpoint_every: 1
log_every: 10
progress: false
"""

# Six runs, two of which train. Kept apart: SHARDS, in how many parts `peace` embeds the zoo.
METHODS = {
    "peace": "",
    "narrow": "encoder.hidden_dim=16",
    **{name: f"producer={name}" for name in ("flat", "statistics", "path_product", "random")},
}
_WORDS = (
    "zoo=tiny trainer=tiny encoder.hidden_dim=8 encoder.num_layers=1 aggregator=mean aggregator.embedding_dim=16 "
    "head.hidden_dim=8 head.projection_dim=8 sampler.batch_size=16"
)
_SWEEP = f"""
seeds: [0]
words: {_WORDS}
axes:
  method: {METHODS}
steps:
  - {{command: peace zoo train tiny tracking=none, once: experiment}}
  - {{command: peace pretrain, only: {{method: [peace, narrow]}}}}
  - {{command: peace embed tracking=none embed.batch_size=8, only: {{method: [peace]}}, shards: SHARDS}}
  - {{command: peace embed tracking=none embed.batch_size=8, only: {{method: [narrow]}}}}
  - {{command: peace embed tracking=none, only: {{method: {list(METHODS)[2:]}}}}}
  - {{command: peace evaluate tracking=none}}
  - {{command: peace table tiny, once: experiment}}
"""

_TABLE = f"""
title: A small table
caption: Of a small zoo.
seeds: 1
rows: {[{"row": {"method": name}, "label": name} for name in METHODS]}
baseline: {{method: flat}}
blocks:
  - {{title: Seen, columns: [{{metric: seen/precision@5, label: "P@5", format: percent}}]}}
"""


class Line(NamedTuple):
    """One line of `peace sweep --status`."""

    number: str
    state: str
    job: str
    log: str
    command: str


@dataclass(frozen=True)
class Home:
    """A folder that is both PEACE_HOME and the current folder of its commands."""

    path: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    @classmethod
    def make(cls, path: Path, shards: int, environment: dict[str, str] | None = None) -> "Home":
        """A new one, whose trained encoders embed in so many parts."""
        for name in ("configs", "slurm"):
            shutil.copytree(folder(name), path / name, ignore=shutil.ignore_patterns("cluster.sh"))
        experiment = path / "experiments" / EXPERIMENT
        experiment.mkdir(parents=True)
        (experiment / "sweep.yaml").write_text(_SWEEP.replace("SHARDS", str(shards)))
        (experiment / "table.yaml").write_text(_TABLE)
        (path / "configs" / "zoo" / "tiny.yaml").write_text(_ZOO)
        (path / "configs" / "trainer" / "tiny.yaml").write_text(_TRAINER)
        # One thread in every process: the numbers must not depend on how a processor was shared.
        settings = {"PEACE_HOME": str(path), "OMP_NUM_THREADS": "1"}
        return cls(path, {**(environment or os.environ), **settings})

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts a `peace` command."""
        command = [sys.executable, "-m", "peace.cli", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.path, env=self.environment, stdout=pipe, stderr=pipe, text=True)

    def peace(self, *arguments: str) -> str:
        """What a `peace` command prints; it must succeed."""
        return finished(self.start(*arguments))

    def slurm(self, *command: str) -> str:
        """What one of Slurm's commands prints; it must succeed."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self) -> list[Line]:
        """`peace sweep --status`, less its first and its last line."""
        lines = self.peace("sweep", EXPERIMENT, "--status").splitlines()
        return [Line(*line.split(maxsplit=4)) for line in lines[1:-1]]

    def wait(self, until: Callable[[], object], what: str, every: float = 0.5, seconds: float = 600) -> None:
        """Waits until something is so; the test fails when it cannot become so, since no job waits or runs."""
        deadline, look = time.monotonic() + seconds, time.monotonic()
        while not until():
            if time.monotonic() > look:
                assert self.queued() or until(), f"all jobs have ended without {what}\n{self.logs()}"
                look = time.monotonic() + 3
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}\n{self.queued()}\n{self.logs()}"
            time.sleep(every)

    def drain(self) -> None:
        """Waits until Slurm has nothing left to do."""
        self.wait(lambda: not self.queued(), "the queue to be empty")

    def queued(self) -> str:
        """What `squeue` prints of jobs that wait or run."""
        return self.slurm("squeue", "--noheader", "--array").strip()

    def logs(self) -> str:
        """The ends of all logs of the sweep."""
        paths = sorted((self.path / "runs" / EXPERIMENT / "sweep" / "logs").glob("*"))
        return "\n".join(f"--- {path.name}\n{path.read_text()[-1000:]}" for path in paths)

    def state(self, command: str) -> dict[str, Any]:
        """What the sweep has written down of the one command that starts so."""
        paths = (self.path / "runs" / EXPERIMENT / "sweep" / "tasks").glob("*.json")
        (found,) = [state for state in map(_content, paths) if state["line"].startswith(command)]
        return found

    def run(self, method: str) -> Path:
        """The run directory of a method."""
        words = [f"experiment={EXPERIMENT}", *_WORDS.split(), *METHODS[method].split()]
        return self.path / run_directory(compose("evaluate", words, self.path / "configs"))

    def tables(self) -> dict[str, bytes]:
        """The experiment's tables by file name."""
        return {path.name: path.read_bytes() for path in (self.path / "results" / "tables").glob("*")}


def _content(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def finished(process: subprocess.Popen[str]) -> str:
    """What a command printed; it must succeed."""
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, f"{out}\n{err}"
    return out
