"""How far the vectors of a table lie apart, and how far those of one kind do (paper c, table 4)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from peace.embeddings.rows import check_column
from peace.embeddings.table import EmbeddingTable


def variance(table: EmbeddingTable) -> float:
    """Returns VAR, the variance of each number over all models, averaged over the numbers of a vector.

    Of flattened weights it is the variance of the weights. The paper does not say over what it averages.

    Args:
        table: The vectors.

    Reference:
        Schürholt et al. 2021, arXiv:2110.15288, table 4.
    """
    return _variance(table.raw)


def variance_within(table: EmbeddingTable, columns: Sequence[str]) -> float:
    """Returns VAR_c, the mean of the variances of groups of models that share the values of some columns.

    Args:
        table: The vectors.
        columns: Such as initialisation and activation.

    Raises:
        InputError: A column is missing.
    """
    for column in columns:
        check_column(table.rows, column, "the embedding table")
    groups = table.rows.groupby(list(columns), sort=True).indices.values()
    return sum(_variance(table.raw[torch.from_numpy(places)]) for places in groups) / len(groups)


def _variance(vectors: Tensor) -> float:
    return float(vectors.double().var(dim=0, correction=0).mean())
