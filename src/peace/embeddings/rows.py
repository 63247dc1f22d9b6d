"""What a row says about a model, and when two rows carry the same label."""

import pandas as pd
import torch
from pandas import DataFrame, Series
from torch import Tensor

from peace.errors import InputError, did_you_mean

COLUMNS = ("id", "run_id", "task", "architecture", "split")


def check_rows(rows: DataFrame, count: int, where: str) -> None:
    """Refuses rows that do not name `count` different models with every column of `COLUMNS`.

    Raises:
        InputError: The number of rows is wrong, a column is missing, or an id is missing or given twice.
    """
    for column in COLUMNS:
        check_column(rows, column, where)
    if len(rows) != count:
        raise InputError("wrong number of rows", where=where, got=len(rows), expected=count)
    if rows["id"].isna().any():
        raise InputError("a model has no id", where=f"{where}, row {int(rows['id'].isna().argmax())}")
    repeated = rows["id"][rows["id"].duplicated()]
    if len(repeated):
        raise InputError(f"duplicate id '{repeated.iloc[0]}'", where=where, do="give every model its own id")


def check_column(rows: DataFrame, column: str, where: str) -> None:
    """Refuses rows that have no such column.

    Raises:
        InputError: The column is missing.
    """
    if column not in rows.columns:
        raise InputError(f"missing column '{column}'", where=where, do=did_you_mean(column, map(str, rows.columns)))


def label_codes(queries: Series, gallery: Series) -> tuple[Tensor, Tensor]:
    """Returns integers that are equal where two labels are equal; a missing label equals nothing, not even itself.

    Shape:
        [Q] and [G] labels to [Q] and [G] int64.
    """
    codes, _ = pd.factorize(pd.concat([queries.astype(object), gallery.astype(object)]))
    of_queries, of_gallery = torch.from_numpy(codes).long().split([len(queries), len(gallery)])
    return of_queries, of_gallery.masked_fill(of_gallery == -1, -2)
