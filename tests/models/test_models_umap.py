"""UMAP as a baseline: refitted where it was loaded, to the same places."""

from pathlib import Path

import pytest
import torch
from test_models_pca import stack

from peace.errors import InputError
from peace.graph.stack import Stack
from peace.models import umap
from peace.models.baselines import BASELINES, flattened
from peace.models.saving import load_producer, save_producer

NODE = {"name": "umap", "embedding_dim": 3, "neighbours": 5, "landmarks": 40}


@pytest.fixture
def clusters() -> Stack:
    """Three kinds of models, far from each other."""
    parts = stack(90).map(torch.clone)
    for tensor in (*parts.weights, *parts.biases):
        tensor.view(90, -1).add_(20 * (torch.arange(90) % 3)[:, None])
    return parts


def test_landmarks_are_some_of_the_training_models(clusters: Stack) -> None:
    baseline = BASELINES.build(NODE)
    baseline.fit([clusters.select(range(60))], [clusters])
    rows = flattened(clusters)
    places = (baseline.landmarks[:, None] == rows).all(dim=2).float().argmax(dim=1)
    assert torch.equal(baseline.landmarks, rows[places]) and places.diff().min() > 0 and 40 < places.max() < 60


@pytest.mark.slow
def test_a_loaded_one_puts_models_where_the_saved_one_did(clusters: Stack, tmp_path: Path) -> None:
    baseline = BASELINES.build(NODE)
    baseline.fit([clusters])
    assert baseline.landmarks.shape == (40, flattened(clusters).shape[1])
    vectors = baseline.embed([clusters])
    identity = save_producer(tmp_path, baseline, {"producer": NODE}, {})
    loaded, found = load_producer(tmp_path)
    assert found == identity and torch.equal(loaded.embed([clusters]), vectors) and vectors.shape == (90, 3)
    distance = torch.cdist(vectors, vectors).fill_diagonal_(torch.inf)
    assert (distance.argmin(dim=1) % 3 == torch.arange(90) % 3).all()


def test_without_the_package_one_sentence_says_what_to_install(
    clusters: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(umap, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^UMAP is not installed in producer 'umap'; run `pip install -e \.\[umap\]`"):
        BASELINES.build(NODE).fit([clusters])
