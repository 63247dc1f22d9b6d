"""Which models are queries: of tasks that the encoder saw in training, of tasks that it did not, and of `val`."""

import numpy as np
from pandas import DataFrame

from peace.embeddings.rows import check_column


def protocols(rows: DataFrame) -> dict[str, np.ndarray]:
    """Returns a boolean mask of the queries for each protocol that has any.

    `seen` are the models of the test split whose task occurs in the training split, `unseen` those whose task does
    not. `val` are the models of the val split whose task occurs in the training split: what is chosen between encoders
    is chosen by them. A model without a task belongs to none.

    Args:
        rows: One row per model, with `task` and `split`.

    Raises:
        InputError: A column is missing.
    """
    for column in ("task", "split"):
        check_column(rows, column, "the rows")
    asked = {split: rows["split"].eq(split) & rows["task"].notna() for split in ("test", "val")}
    trained = rows["task"].isin(rows.loc[rows["split"].eq("train"), "task"])
    masks = {"seen": asked["test"] & trained, "unseen": asked["test"] & ~trained, "val": asked["val"] & trained}
    return {name: mask.to_numpy(dtype=bool) for name, mask in masks.items() if mask.any()}
