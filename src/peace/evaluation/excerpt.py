"""Some models that stand for all in a picture."""

import numpy as np
import torch
from pandas import DataFrame

from peace import seeding


def excerpt(rows: DataFrame, runs: int, epochs: int, seed: int = 0) -> np.ndarray:
    """Returns which models belong to a picture: so many runs drawn at random, at epochs spread over their training.

    Args:
        rows: One row per model, with `run_id` and `epoch`.
        runs: How many at most.
        epochs: How many at most; the first and the last are among them where there are two or more.
        seed: Decides which runs.

    Shape:
        [G] bool.
    """
    known = np.sort(rows["run_id"].unique())
    kept = known[torch.randperm(len(known), generator=seeding.generator("excerpt", seed))[:runs].numpy()]
    times = np.sort(rows["epoch"].unique())
    spread = times[np.linspace(0, len(times) - 1, min(epochs, len(times))).round().astype(int)]
    return (rows["run_id"].isin(kept) & rows["epoch"].isin(spread)).to_numpy(copy=True)
