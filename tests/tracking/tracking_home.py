"""A folder in which one small experiment is run with tracking on, without a key and without a network."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

EXPERIMENT = "tiny"
ZOO = (
    "zoo.seeds=2 zoo.subset_count=4 zoo.subset_size=3 zoo.held_out=1 zoo.epochs=2 zoo.checkpoints=[1,2] "
    "zoo.learning_rates=[0.005] zoo.batch_size=64 zoo.val_share=0.25 zoo.test_share=0.25"
).split()
WORDS = [
    f"experiment={EXPERIMENT}", *ZOO, "trainer=demo", "trainer.max_steps=4", "trainer.steps_per_epoch=2",
    "trainer.log_every=1", "trainer.checkpoint_every=1", "encoder.hidden_dim=8", "aggregator=mean",
    "aggregator.embedding_dim=16", "head.hidden_dim=8", "head.projection_dim=8", "sampler.batch_size=16",
]  # fmt: skip
TABLE = """
title: A small table
caption: Of a small zoo.
seeds: 1
rows: [{row: {method: trained}, label: PEACE}]
blocks:
  - {title: Seen, columns: [{metric: seen/precision@5, label: "P@5", format: percent}]}
"""
# A space in the name, as people have them.
HOME = "tracked home"


@contextmanager
def entered(home: Path) -> Iterator[pytest.MonkeyPatch]:
    """A folder that is PEACE_HOME and the current one, on a machine that knows no key."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")] + ["PEACE_DATA"]:
            patch.delenv(name, raising=False)
        patch.setenv("PEACE_HOME", str(home))
        patch.setenv("NETRC", str(home / "no netrc"))
        patch.setenv("HOME", str(home.parent / "person"))
        patch.chdir(home)
        # The plane of the first two components is laid out at once; UMAP compiles for seconds.
        patch.setattr("peace.evaluation.projection.find_spec", lambda name: None)
        yield patch
