"""Squared errors of a reconstruction, against scikit-learn's R²."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from sklearn.metrics import r2_score
from torch.nn.functional import pad

from peace.models.baselines import flattened
from peace.models.loading import chunks, load_stacks
from peace.models.pca import Pca
from peace.models.reconstruction import squared_errors
from peace.zoo.architectures import build
from peace.zoo.initialisation import initialise
from peace.zoo.storage import Zoo, write_stack

SPLITS = ("train", "train", "val", "test")


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    """Models of two sizes."""
    rows = []
    for hidden in (3, 5):
        node = {"name": "mlp", "input_shape": [1, 2, 2], "outputs": 3, "activation": "tanh", "hidden": [hidden]}
        write_stack(tmp_path, f"{hidden}.safetensors", initialise(build(node), "normal", torch.arange(12) + hidden))
        rows += [
            {"id": f"{hidden}-{place}", "architecture_config": json.dumps(node), "split": SPLITS[place % 4],
             "weights_file": f"{hidden}.safetensors", "weights_index": place} for place in range(12)
        ]  # fmt: skip
    return Zoo(tmp_path, pd.DataFrame(rows))


def test_their_ratio_is_the_r2_of_each_split(zoo: Zoo) -> None:
    stacks, rows = load_stacks(zoo, zoo.rows)
    baseline = Pca(embedding_dim=3)
    baseline.fit(stacks)
    vectors = baseline.embed(stacks)
    found = squared_errors(zoo, chunks(zoo, zoo.rows, 5), baseline, vectors)
    widest = int(baseline.width)
    flat = [flattened(stack) for stack in stacks]
    weights = torch.cat([pad(part, (0, widest - part.shape[1])) for part in flat]).double()
    told = baseline.inverse(vectors)
    for split in ("train", "val", "test"):
        mask = rows["split"].eq(split).to_numpy(copy=True)
        share = found["squared_error"][mask].sum() / found["squared_deviation"][mask].sum()
        assert 1 - share == pytest.approx(r2_score(weights[mask], told[mask], multioutput="variance_weighted"))
