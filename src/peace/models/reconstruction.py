"""How far the weights that vectors stand for are from those that they were made of."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from peace.models.baselines import Baseline
from peace.models.loading import load_stacks
from peace.zoo.storage import Zoo


def squared_errors(
    zoo: Zoo, parts: Sequence[pd.DataFrame], baseline: Baseline, vectors: Tensor
) -> dict[str, np.ndarray]:
    """Returns `squared_error`, Σ(w - ŵ)² of each model, and `squared_deviation`, Σ(w - mean of its split)².

    The sums are over the padded features w and the ŵ that the baseline makes of a vector; 1 minus the ratio of their
    totals over a split is the R² of the reconstruction there. Never more than one part is in memory.

    Args:
        zoo: Where the weights lie.
        parts: Rows of the manifest, each of one architecture.
        baseline: One that is invertible.
        vectors: Its embeddings of these models, in order. Shape: [G, D].

    Shape:
        Each [G] float64.
    """
    splits = pd.concat(parts)["split"].to_numpy()
    total = {split: torch.zeros(int(baseline.width), dtype=torch.float64) for split in np.unique(splits)}
    for split, weights in _weights(zoo, parts, baseline):
        for name in np.unique(split):
            total[name] += weights[torch.from_numpy(split == name)].sum(dim=0)
    means = {name: sums / (splits == name).sum() for name, sums in total.items()}
    errors, deviations, place = [], [], 0
    for split, weights in _weights(zoo, parts, baseline):
        found = baseline.inverse(vectors[place : place + len(weights)])
        errors.append((weights - found).square().sum(dim=1))
        deviations.append((weights - torch.stack([means[name] for name in split])).square().sum(dim=1))
        place += len(weights)
    return {"squared_error": torch.cat(errors).numpy(), "squared_deviation": torch.cat(deviations).numpy()}


def _weights(zoo: Zoo, parts: Sequence[pd.DataFrame], baseline: Baseline) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yields the splits and the features of some models after the other. Shape: [g] and [g, width] float64."""
    for part in parts:
        stacks, rows = load_stacks(zoo, part)
        yield rows["split"].to_numpy(dtype=object), baseline.padded(stacks).double()
