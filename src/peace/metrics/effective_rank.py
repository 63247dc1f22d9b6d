"""How many directions a set of embeddings really uses."""

import torch
from torch import Tensor

from peace.errors import InputError


def effective_rank(vectors: Tensor) -> float:
    """Returns exp(-Σ p_i ln p_i) with p_i = σ_i / Σ σ_j over the singular values σ of the centred vectors.

    It lies between 1, where all vectors lie on a line, and min(G-1, D), where they spread evenly. A collapsed set,
    whose vectors are all equal, has rank 0.

    Raises:
        InputError: There are fewer than two vectors, or one is not finite.

    Shape:
        [G, D] to a number.

    Reference:
        Roy and Vetterli 2007, *The effective rank: a measure of effective dimensionality*, definition 1. There the
        matrix is not centred.
    """
    if len(vectors) < 2 or not vectors.isfinite().all():
        raise InputError("no effective rank", got=f"{len(vectors)} vectors", expected="two or more, all finite")
    vectors = vectors.double()
    singular = torch.linalg.svdvals(vectors - vectors.mean(dim=0))
    noise = torch.finfo(torch.float64).eps * max(vectors.shape) * vectors.norm()
    if singular.max() <= noise:
        return 0.0
    share = singular / singular.sum()
    return float(torch.special.entr(share).sum().exp())
