import math

import pytest
import torch
from pandas import DataFrame
from torch import Tensor

from peace.embeddings.table import EmbeddingTable
from peace.errors import InputError
from peace.evaluation.invariance import invariance


def table_of(vectors: Tensor, ids: str) -> EmbeddingTable:
    rows = DataFrame({"id": list(ids), "run_id": list(ids), "task": "t", "architecture": "mlp", "split": "test"})
    return EmbeddingTable.of(vectors, rows, {})


def test_values_by_hand_whatever_the_order_of_rows() -> None:
    originals = table_of(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), "ab")
    copies = table_of(torch.tensor([[0.0, 1.0], [0.6, 0.8]]), "ba")
    # Only a moves, from (1, 0) to (0.6, 0.8); the entries move by 0.4 and 0.8, and the cosine is 0.6.
    assert invariance(originals, copies) == pytest.approx(
        {"max_abs_difference": 0.8, "mean_abs_difference": 0.3, "max_cosine_distance": 0.4}, rel=1e-6
    )


def test_equal_copies_do_not_move() -> None:
    table = table_of(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), "abcde")
    assert set(invariance(table, table.select([3, 1, 4, 0, 2])).values()) == {0.0}


def test_small_angles_keep_their_digits() -> None:
    angle = 1e-5
    originals = table_of(torch.tensor([[1.0, 0.0]]), "a")
    copies = table_of(torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64), "a")
    assert invariance(originals, copies)["max_cosine_distance"] == pytest.approx(angle**2 / 2, rel=1e-5, abs=0)


def test_tables_that_do_not_match_are_refused() -> None:
    table = table_of(torch.eye(3), "abc")
    with pytest.raises(InputError, match="model 'b' is in only one"):
        invariance(table, table.select([0, 2]))
    with pytest.raises(InputError, match="model 'd' is in only one"):
        invariance(table, table_of(torch.eye(4)[:, :3] + 1, "abcd"))
    with pytest.raises(InputError, match="another dimension: got 2, expected 3"):
        invariance(table, table_of(torch.ones(3, 2), "abc"))
    with pytest.raises(InputError, match="no models to compare"):
        invariance(table.select([]), table.select([]))
