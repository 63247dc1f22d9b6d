import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from pandas import DataFrame

from peace.embeddings.table import EmbeddingTable
from peace.errors import InputError
from peace.evaluation.projection import project


def table_of(count: int = 12, dimension: int = 6) -> EmbeddingTable:
    ids = [f"m{i:02d}" for i in range(count)]
    rows = DataFrame({"id": ids, "run_id": ids, "task": "t", "architecture": "mlp", "split": "test", "extra": 1})
    vectors = torch.randn(count, dimension, generator=torch.Generator().manual_seed(0))
    return EmbeddingTable.of(vectors, rows, {})


@pytest.fixture
def without_umap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)


@pytest.mark.usefixtures("without_umap")
def test_pca_takes_over_without_umap() -> None:
    table = table_of()
    points, method = project(table)
    assert method == "pca"
    assert list(points.columns) == ["id", "task", "architecture", "split", "x", "y"]
    assert points["id"].tolist() == sorted(table.rows["id"])
    centred = (table.vectors - table.vectors.mean(dim=0)).double()
    left, singular, _ = torch.linalg.svd(centred, full_matrices=False)
    expected = (left * singular)[:, :2].abs()
    np.testing.assert_allclose(points[["x", "y"]].abs(), expected, atol=1e-5)


@pytest.mark.usefixtures("without_umap")
def test_the_order_of_rows_does_not_matter() -> None:
    table = table_of()
    shuffled = table.select(np.random.default_rng(0).permutation(len(table)))
    pd.testing.assert_frame_equal(project(shuffled)[0], project(table)[0])


def test_umap_gets_sorted_rows_and_a_keyed_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, object]] = []

    class Umap:
        def __init__(self, **arguments: object) -> None:
            seen.append(arguments)

        def fit_transform(self, vectors: np.ndarray) -> np.ndarray:
            return vectors[:, :2]

    module = ModuleType("umap")
    module.__spec__ = ModuleSpec("umap", None)
    module.UMAP = Umap
    monkeypatch.setitem(sys.modules, "umap", module)
    table = table_of()
    points, method = project(table.select(range(11, -1, -1)), seed=3)
    project(table, seed=3)
    project(table, seed=4)
    assert method == "umap"
    np.testing.assert_array_equal(points[["x", "y"]], table.vectors[:, :2])
    states = [arguments["random_state"] for arguments in seen]
    assert states[0] == states[1] != states[2]
    assert seen[0]["n_neighbors"] == 11


@pytest.mark.parametrize(("count", "dimension"), [(1, 6), (0, 6), (5, 1)])
def test_too_little_to_lay_out_is_refused(count: int, dimension: int) -> None:
    with pytest.raises(InputError, match=f"got {count} models of dimension {dimension}"):
        project(table_of(count, dimension))


@pytest.mark.slow
def test_umap_is_reproducible_and_parts_clusters() -> None:
    pytest.importorskip("umap")
    centres = torch.eye(8).repeat_interleave(20, dim=0)[:40]
    rows = table_of(40).rows
    table = EmbeddingTable.of(centres + 0.05 * table_of(40, 8).vectors, rows, {})
    points, method = project(table)
    again, _ = project(table.select(range(39, -1, -1)))
    assert method == "umap"
    pd.testing.assert_frame_equal(points, again)
    first, second = points[["x", "y"]].to_numpy()[:20], points[["x", "y"]].to_numpy()[20:]
    gap = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))
    assert gap > 2 * max(first.std(axis=0).max(), second.std(axis=0).max())
