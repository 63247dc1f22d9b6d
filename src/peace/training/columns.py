"""Columns of a manifest as tensors."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from peace.errors import InputError, did_you_mean


def numbered(column: pd.Series) -> Tensor:
    """Returns the number of each row's value in sorted order, -1 where there is none. Shape: [G] int64."""
    return torch.tensor(pd.factorize(column, sort=True)[0].tolist())


def numbers(rows: pd.DataFrame, names: Sequence[str], what: str) -> Tensor:
    """Returns columns of numbers. Shape: [G, K] float64.

    Args:
        rows: Of a manifest.
        names: K columns.
        what: They are called in messages.

    Raises:
        InputError: There is no such column, it holds no numbers, or lacks some.
    """
    unknown = [name for name in names if name not in rows or not pd.api.types.is_numeric_dtype(rows[name])]
    if unknown:
        raise InputError(f"no such {what}", got=unknown, expected="numeric columns of the manifest")
    if lacking := [name for name in names if rows[name].isna().any()]:
        count = int(rows[lacking[0]].isna().sum())
        raise InputError(f"not every model has the {what} '{lacking[0]}'", got=f"{count} of {len(rows)} without",
                         do="choose another column")  # fmt: skip
    return torch.tensor(rows[list(names)].to_numpy(dtype="float64"))


def standardised(rows: pd.DataFrame, names: Sequence[str], what: str) -> Tensor:
    """Returns columns at mean 0 and variance 1 over the rows, zero where one is constant; see `numbers`.

    Shape:
        [G, K] float32.
    """
    if not names:
        return torch.zeros(len(rows), 0)
    values = numbers(rows, names, what)
    spread = torch.where((values == values[0]).all(0), torch.inf, values.std(0, correction=0))
    return ((values - values.mean(0)) / spread).float()


def labels(rows: pd.DataFrame, name: str | None) -> Tensor:
    """Returns the number of each row's label, -1 where it has none or no column is named. Shape: [G] int64.

    Raises:
        InputError: There is no such column, or its values are no names or numbers.
    """
    if name is None:
        return torch.full((len(rows),), -1)
    plain = [str(column) for column in rows if pd.api.types.is_scalar(rows[column].iloc[0])]
    if name not in plain:
        raise InputError(f"no such label '{name}'", where="'loss.label'", expected="a column of the manifest",
                         do=did_you_mean(name, plain))  # fmt: skip
    return numbered(rows[name])
