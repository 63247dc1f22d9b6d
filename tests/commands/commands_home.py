"""A folder in which one small experiment was run from the command line, and what to look for in it."""

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from peace.config import compose, run_directory, zoo_directory


class Finished(NamedTuple):
    code: int
    out: str
    err: str


Peace = Callable[..., Finished]

EXPERIMENT = "paper/tiny"  # in a folder of experiments, which is more than one at the top
METHODS = ("peace", "flat", "statistics", "path_product", "random", "metadata")

ZOO = (
    "zoo.seeds=2 zoo.subset_count=4 zoo.subset_size=3 zoo.held_out=1 zoo.epochs=2 zoo.checkpoints=[1,2] "
    "zoo.learning_rates=[0.005] zoo.batch_size=64 zoo.val_share=0.25 zoo.test_share=0.25"
)
WORDS = (
    f"{ZOO} trainer=demo trainer.max_steps=4 trainer.steps_per_epoch=2 encoder.hidden_dim=8 aggregator=mean "
    "aggregator.embedding_dim=16 head.hidden_dim=8 head.projection_dim=8 sampler.batch_size=16"
)

SWEEP = f"""
seeds: [0]
words: "{WORDS}"
axes:
  method: {{peace: "", {", ".join(f"{name}: producer={name}" for name in METHODS[1:])}}}
steps:
  - {{command: "peace zoo train demo {ZOO}", once: seed}}
  - {{command: peace pretrain, only: {{method: [peace]}}}}
  - command: peace embed
  - command: peace evaluate
  - {{command: peace index, only: {{method: [peace]}}}}
  - {{command: peace table {EXPERIMENT}, once: experiment}}
"""

TABLE = f"""
title: A small table
caption: Of a small zoo.
seeds: 1
rows: [{", ".join(f"{{row: {{method: {name}}}, label: {name}}}" for name in METHODS)}]
baseline: {{method: flat}}
blocks:
  - {{title: Seen, columns: [{{metric: seen/precision@5, label: "P@5", format: percent}}]}}
"""


@dataclass(frozen=True)
class Home:
    """A folder that is both PEACE_HOME and the current folder of its commands."""

    folder: Path

    def config(self, *words: str) -> dict[str, Any]:
        """The config of one of its runs; the first words are those of the experiment."""
        with chdir(self.folder), patch.dict(os.environ, PEACE_HOME=str(self.folder)):
            return compose("evaluate", [f"experiment={EXPERIMENT}", *WORDS.split(), *words])

    @property
    def zoo(self) -> Path:
        """Where the zoo lies."""
        return self.folder / zoo_directory(self.config())

    def run(self, producer: str = "trained") -> Path:
        """The run directory of a producer."""
        return self.folder / run_directory(self.config(f"producer={producer}"))


def verb(name: str, *words: str) -> list[str]:
    """What a person would type for a run of the experiment."""
    return [name, f"experiment={EXPERIMENT}", *WORDS.split(), *words]


def snapshot(folder: Path, without: Sequence[str] = ()) -> dict[str, str]:
    """The sha256 of every file below a folder by its path, empty folders included."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
        if path.name not in without
    }
