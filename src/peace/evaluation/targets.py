"""What the rows of an embedding table say of its models, as targets of a probe."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from pandas import DataFrame, Series
from torch import Tensor

from peace.embeddings.rows import check_column
from peace.errors import InputError

SPLITS = ("train", "val", "test")


def numbers(rows: DataFrame, names: Sequence[str], where: str) -> dict[str, Tensor]:
    """Returns columns of numbers; one of lists, such as F1 by class, is one target for each place: `name/0`, `name/1`.

    Args:
        rows: One row per model.
        names: The columns.
        where: What to call the rows in a message.

    Raises:
        InputError: A column is missing, a value is not a finite number, or lists are of different lengths.

    Shape:
        Each [G] float64.
    """
    found = {}
    for name in names:
        check_column(rows, name, where)
        values = rows[name]
        if any(isinstance(value, list | tuple | np.ndarray) for value in values):
            lengths = sorted({len(value) if np.ndim(value) == 1 else 0 for value in values})
            if len(lengths) > 1:
                raise InputError(f"target '{name}' has lists of different lengths", where=where, got=lengths,
                                 expected="one length", do="probe models with equally many classes")  # fmt: skip
            columns = {f"{name}/{place}": [value[place] for value in values] for place in range(lengths[0])}
        else:
            columns = {name: values}
        found |= {key: _numbers(column, rows["id"], key, where) for key, column in columns.items()}
    return found


def labels(rows: DataFrame, names: Sequence[str], where: str) -> dict[str, np.ndarray]:
    """Returns columns of labels.

    Raises:
        InputError: A column is missing, or a model has no label.

    Shape:
        Each [G].
    """
    found = {}
    for name in names:
        check_column(rows, name, where)
        missing = rows[name].isna()
        if missing.any():
            model = rows["id"].iloc[int(missing.argmax())]
            raise InputError(f"model '{model}' has no {name}", where=where, do=f"leave the target '{name}' out")
        found[name] = rows[name].astype(str).to_numpy()
    return found


def varying(targets: Mapping[str, Tensor | np.ndarray], splits: Series) -> tuple[list[str], dict[str, str]]:
    """Returns the targets that have several values in each split, and why each of the others can tell nothing.

    Args:
        targets: By name. Shape of each: [G].
        splits: The split of each model. Shape: [G].
    """
    constant = {}
    for name, values in targets.items():
        same = [split for split in SPLITS if len(np.unique(np.asarray(values)[splits.eq(split)])) < 2]
        if same:
            constant[name] = f"the same for all {same[0]} models"
    return [name for name in targets if name not in constant], constant


def _numbers(column: Series | list[object], ids: Series, name: str, where: str) -> Tensor:
    try:
        values = np.array(column, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError(f"target '{name}' is no number", where=where, got=str(error), do="name it among the classes"
                         ) from error  # fmt: skip
    wrong = ~np.isfinite(values)
    if wrong.any():
        model = ids.iloc[int(wrong.argmax())]
        raise InputError(f"model '{model}' has no finite {name}", where=where, do=f"leave the target '{name}' out")
    return torch.from_numpy(values)
