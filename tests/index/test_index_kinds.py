"""Approximate indexes: what they find, what they say of themselves, and that they come back."""

import json
from pathlib import Path

import pytest
import torch
from test_index_faiss import table_of
from torch.nn.functional import normalize

from peace.errors import InputError, PeaceError
from peace.index.faiss_index import FaissIndex
from peace.index.recall import recall

NODES = [
    {"name": "exact"},
    {"name": "hnsw", "links": 8, "build_beam": 40, "search_beam": 40},
    *({"name": "ivf_pq", "cells": 4, "probes": 4, "code_bytes": 2, "refine": refine, "candidates": 30}
      for refine in ("none", "half", "exact")),
]  # fmt: skip


@pytest.mark.parametrize("node", NODES, ids=lambda node: f"{node['name']} {node.get('refine', '')}")
def test_an_index_finds_saves_and_tells_its_recall(tmp_path: Path, node: dict[str, object]) -> None:
    table = table_of(400, 8)
    index = FaissIndex.build(table, node)
    index.save(tmp_path / "index")
    loaded = FaissIndex.load(tmp_path / "index")
    queries = torch.randn(20, 8, generator=torch.Generator().manual_seed(1))
    similarities, positions = loaded.search(queries, 5)
    for found, expected in zip((similarities, positions), index.search(queries, 5), strict=True):
        assert torch.equal(found, expected)
    about = json.loads((tmp_path / "index" / "index.json").read_text())
    assert about["kind"] == node == loaded.kind and about["recall@10"] == index.recall == loaded.recall
    exact = FaissIndex.build(table)
    assert exact.recall == 1.0
    reached = recall(table.vectors, normalize(queries, dim=1), positions, 5)
    coarse = node.get("refine") == "none"
    assert reached == pytest.approx(1 if not coarse else 0.5, abs=0.02 if not coarse else 0.4)
    assert 0.2 < index.recall < 0.95 if coarse else index.recall > 0.97
    if not coarse:
        assert torch.allclose(similarities, exact.search(queries, 5)[0], atol=1e-3)


def test_recall_counts_neighbours_by_their_similarity() -> None:
    vectors = torch.tensor([[1.0, 0], [0, 1], [1, 0], [-1, 0], [0.8, 0.6]])
    queries = torch.tensor([[1.0, 0]])
    # Rows 0 and 2 are the same vector: either is a right answer to "the nearest".
    assert recall(vectors, queries, torch.tensor([[2, 1]]), 1) == 1
    assert recall(vectors, queries, torch.tensor([[2, 1]]), 2) == 0.5
    assert recall(vectors, queries, torch.tensor([[0, 2, 3]]), 3) == pytest.approx(2 / 3)
    assert recall(vectors, queries, torch.tensor([[-1, 4]]), 1) == 0
    # A query that is row 0 itself: the nearest others are rows 2 and 4.
    assert recall(vectors, queries, torch.tensor([[0, 2, 4]]), 2, torch.tensor([0])) == 1
    assert recall(vectors, queries, torch.tensor([[0, 2, 1]]), 2, torch.tensor([0])) == 0.5


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"vectors do not fit the index.*got 30 of dimension 6.*at least 256"):
        FaissIndex.build(table_of(), {"name": "ivf_pq", "code_bytes": 2})
    with pytest.raises(InputError, match="unknown index 'hsnw'; did you mean 'hnsw'"):
        FaissIndex.build(table_of(), {"name": "hsnw"})
    FaissIndex.build(table_of(), {"name": "hnsw"}).save(tmp_path / "index")
    path = tmp_path / "index" / "index.json"
    path.write_text(path.read_text().replace('"hnsw"', '"exact"'))
    with pytest.raises(InputError, match="damaged index"):
        FaissIndex.load(tmp_path / "index")
    narrow = FaissIndex.build(table_of(400, 8), {"name": "ivf_pq", "cells": 40, "probes": 1, "code_bytes": 2})
    with pytest.raises(PeaceError, match="fewer neighbours than were asked for"):
        narrow.search(torch.ones(1, 8), 300)
