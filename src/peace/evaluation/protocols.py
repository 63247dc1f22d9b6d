"""Which models are queries: those of tasks that the encoder saw in training, and those of tasks that it did not."""

import numpy as np
from pandas import DataFrame

from peace.embeddings.rows import check_column


def protocols(rows: DataFrame) -> dict[str, np.ndarray]:
    """Returns a boolean mask of the queries for each protocol that has any.

    `seen` are the models of the test split whose task occurs in the training split, `unseen` those whose task does
    not. A model without a task belongs to neither.

    Args:
        rows: One row per model, with `task` and `split`.

    Raises:
        InputError: A column is missing.
    """
    for column in ("task", "split"):
        check_column(rows, column, "the rows")
    queries = rows["split"].eq("test") & rows["task"].notna()
    trained = rows["task"].isin(rows.loc[rows["split"].eq("train"), "task"])
    masks = {"seen": queries & trained, "unseen": queries & ~trained}
    return {name: mask.to_numpy(dtype=bool) for name, mask in masks.items() if mask.any()}
