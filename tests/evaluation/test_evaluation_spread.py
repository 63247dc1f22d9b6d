import pandas as pd
import pytest
import torch

from peace.embeddings.table import EmbeddingTable
from peace.errors import InputError
from peace.evaluation.spread import variance, variance_within


def table() -> EmbeddingTable:
    vectors = torch.tensor([[1.0, 3.0], [3.0, 3.0], [11.0, 1.0], [11.0, 5.0]])
    rows = pd.DataFrame({"id": list("abcd"), "run_id": list("abcd"), "task": "t", "architecture": "m", "split": "train",
                         "initialisation": ["u", "u", "n", "n"], "activation": "tanh"})  # fmt: skip
    return EmbeddingTable.of(vectors, rows, {})


def test_variance_is_that_of_each_number_over_models() -> None:
    # Of 1, 3, 11, 11 it is 20.75, of 3, 3, 1, 5 it is 2.
    assert variance(table()) == pytest.approx((20.75 + 2) / 2)


def test_variance_within_is_the_mean_over_groups() -> None:
    # Groups: (1, 3) and (3, 3), 1 and 0; (11, 11) and (1, 5), 0 and 4.
    assert variance_within(table(), ["initialisation", "activation"]) == pytest.approx(((1 + 0) / 2 + (0 + 4) / 2) / 2)
    with pytest.raises(InputError, match="missing column 'optimizer'"):
        variance_within(table(), ["optimizer"])
