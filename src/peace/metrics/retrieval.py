"""Retrieval measures per query on ranked relevance, and what a uniformly random ranking reaches on average.

Relevance is boolean [Q, G], best rank first. Queries may have galleries of different sizes: what is excluded for a
query stands at the end of its row as not relevant, and its own gallery size goes to the chance level. Every query must
have a relevant model; callers refuse one that has none.
"""

import torch
from torch import Tensor


def precision_at_k(relevance: Tensor, k: int) -> Tensor:
    """Returns the share of relevant models among the first k ranks, where a missing rank counts as not relevant.

    Shape:
        [Q, G] bool to [Q] float64.
    """
    return relevance[:, :k].sum(dim=1).double() / k


def recall_at_k(relevance: Tensor, k: int) -> Tensor:
    """Returns the share of the R relevant models that are among the first k ranks.

    Shape:
        [Q, G] bool to [Q] float64.
    """
    return relevance[:, :k].sum(dim=1) / relevance.sum(dim=1).double()


def map_at_r(relevance: Tensor) -> Tensor:
    """Returns the average precision cut at rank R, the number of relevant models.

    (1/R) Σ_{i≤R} P(i) rel(i), where P(i) is the precision at rank i.

    Shape:
        [Q, G] bool to [Q] float64.

    Reference:
        Musgrave, Belongie and Lim 2020, arXiv:2003.08505, section 3.2.
    """
    relevant = relevance.sum(dim=1)
    ranks = torch.arange(1, relevance.shape[1] + 1)
    precision = relevance.cumsum(dim=1) / ranks.double()
    counted = relevance & (ranks <= relevant[:, None])
    return (precision * counted).sum(dim=1) / relevant


def mrr(relevance: Tensor) -> Tensor:
    """Returns the reciprocal of the rank of the first relevant model.

    Shape:
        [Q, G] bool to [Q] float64.
    """
    return 1.0 / (relevance.int().argmax(dim=1) + 1).double()


def chance_precision_at_k(relevant: Tensor, gallery: Tensor, k: int) -> Tensor:
    """Returns the expected precision at k of a random ranking: R/G, or R/k where the gallery is smaller than k.

    Args:
        relevant: Relevant models of each query, R ≥ 1.
        gallery: Gallery size of each query after exclusion, G ≥ R.
        k: The cut-off.

    Shape:
        [Q] and [Q] int64 to [Q] float64.
    """
    return relevant.double() / gallery * gallery.clamp(max=k) / k


def chance_recall_at_k(gallery: Tensor, k: int) -> Tensor:
    """Returns the expected recall at k of a random ranking: min(k, G)/G.

    Shape:
        [Q] int64 gallery sizes to [Q] float64.
    """
    return gallery.clamp(max=k).double() / gallery


def chance_map_at_r(relevant: Tensor, gallery: Tensor) -> Tensor:
    """Returns the expected map@r of a random ranking.

    With p = R/G and c = (R-1)/(G-1), the chance that another rank is relevant once rank i is, each rank contributes
    E[P(i) rel(i)] = (p/i)(1 + (i-1)c). The sum over i ≤ R, divided by R, is (p/R)(H_R (1-c) + R c) with the harmonic
    number H_R.

    Shape:
        [Q] relevant and [Q] gallery sizes, int64, to [Q] float64.
    """
    share = relevant.double() / gallery
    another = (relevant - 1).double() / (gallery - 1).clamp(min=1)
    return share / relevant * (_harmonic(relevant) * (1 - another) + relevant * another)


def chance_mrr(relevant: Tensor, gallery: Tensor) -> Tensor:
    """Returns the expected reciprocal rank of a random ranking.

    The first relevant model has rank r with probability C(G-r, R-1)/C(G, R). Summed with weight 1/r this is
    R/(G-R+1) (H_G - H_{R-1}) with the harmonic numbers H.

    Shape:
        [Q] relevant and [Q] gallery sizes, int64, to [Q] float64.
    """
    return relevant / (gallery - relevant + 1.0).double() * (_harmonic(gallery) - _harmonic(relevant - 1))


def _harmonic(count: Tensor) -> Tensor:
    one = torch.ones((), dtype=torch.float64)
    return torch.digamma(count + one) - torch.digamma(one)
