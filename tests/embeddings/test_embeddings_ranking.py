from pathlib import Path

import pandas as pd
import pytest
import torch
from pandas import DataFrame

from peace.embeddings.ranking import Ranking
from peace.embeddings.table import EmbeddingTable
from peace.errors import InputError


def rows_of(*ids: str) -> DataFrame:
    return DataFrame({"id": ids, "run_id": ids, "task": "t", "architecture": "mlp", "split": "test"})


def test_a_saved_ranking_comes_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "ranking.safetensors"
    queries, gallery = rows_of("a", "b"), rows_of("x", "y", "z").assign(size=[1, None, 3])
    ranking = Ranking(torch.tensor([[2, 0, 1], [0, 1, 2]]), queries, gallery, {"method": "bm25"})
    ranking.save(path)
    loaded = Ranking.load(path)
    assert torch.equal(loaded.order, ranking.order)
    pd.testing.assert_frame_equal(loaded.queries, queries)
    pd.testing.assert_frame_equal(loaded.gallery, gallery)
    assert loaded.provenance == {"method": "bm25"}


@pytest.mark.parametrize("second", [[0, 1, 1], [0, 1, 3], [-1, 0, 1]])
def test_every_query_must_rank_every_model_once(second: list[int]) -> None:
    with pytest.raises(InputError, match="order of query 'b'"):
        Ranking(torch.tensor([[0, 1, 2], second]), rows_of("a", "b"), rows_of("x", "y", "z"), {})


def test_rows_must_fit_the_order() -> None:
    order = torch.tensor([[0, 1, 2]])
    with pytest.raises(InputError, match="wrong number of rows in the queries"):
        Ranking(order, rows_of("a", "b"), rows_of("x", "y", "z"), {})
    with pytest.raises(InputError, match="wrong number of rows in the gallery"):
        Ranking(order, rows_of("a"), rows_of("x", "y"), {})
    with pytest.raises(InputError, match=r"wrong order.*got torch\.float32"):
        Ranking(order.float(), rows_of("a"), rows_of("x", "y", "z"), {})


def test_a_ranking_is_no_table_and_a_table_no_ranking(tmp_path: Path) -> None:
    Ranking(torch.tensor([[0]]), rows_of("a"), rows_of("x"), {}).save(tmp_path / "ranking")
    EmbeddingTable.of(torch.ones(1, 2), rows_of("a"), {}).save(tmp_path / "table")
    with pytest.raises(InputError, match="got ranking, expected embedding table"):
        EmbeddingTable.load(tmp_path / "ranking")
    with pytest.raises(InputError, match="got embedding table, expected ranking"):
        Ranking.load(tmp_path / "table")


def test_a_damaged_ranking_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ranking"
    with pytest.raises(InputError, match="there is no ranking"):
        Ranking.load(path)
    Ranking(torch.tensor([[0]]), rows_of("a"), rows_of("x"), {}).save(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match="damaged ranking"):
        Ranking.load(path)
