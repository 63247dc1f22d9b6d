"""The linear probe of a number: ridge regression in closed form, its penalty chosen on `val`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from peace.evaluation.features import Features

ALPHAS = torch.logspace(-5, 3, 17, dtype=torch.float64)
"""The penalties of Schürholt et al.'s range, 17 as in their code."""


@dataclass(frozen=True)
class Ridge:
    """Linear functions of features, one for each target.

    Attributes:
        weights: Shape: [D, M] float64.
        centre: The targets' means over the training models. Shape: [M] float64.
        alphas: The penalties that were chosen. Shape: [M] float64.
    """

    weights: Tensor
    centre: Tensor
    alphas: Tensor

    def predict(self, features: Features) -> Tensor:
        """Returns predictions of all targets. Shape: [G, D] to [G, M] float64."""
        return features @ self.weights + self.centre


def fit_ridge(train: Features, targets: Tensor, val: Features, val_targets: Tensor, alphas: Tensor = ALPHAS) -> Ridge:
    """Returns the ridge regression of each target whose penalty α predicts it best on `val`.

    w = (ZᵀZ + αI)⁻¹ Zᵀ(t - t̄) for standardised features Z. With ZᵀZ = V diag(λ) Vᵀ it is V diag(1/(λ + α)) VᵀZᵀ(t - t̄):
    one decomposition serves all penalties and targets. The best R² on `val` is the least squared error there.

    Args:
        train: Features of the training models; D of some thousands at most, for ZᵀZ is D x D.
        targets: What they are to predict. Shape: [G, M].
        val: Features of the models by which α is chosen.
        val_targets: Their targets. Shape: [V, M].
        alphas: The penalties to choose from, for each target apart; of equally good ones the first is taken.

    Reference:
        Tikhonov and Arsenin 1977; Schürholt et al. 2021, arXiv:2110.15288, section 4.2 and (Q1) of appendix B. There Z
        is neither standardised nor has the regression an intercept; see `properties`.
    """
    targets, val_targets = targets.double(), val_targets.double()
    centre = targets.mean(dim=0)
    dimension = len(train.mean)
    gram = torch.zeros(dimension, dimension, dtype=torch.float64)
    moments = torch.zeros(dimension, targets.shape[1], dtype=torch.float64)
    place = 0
    for part in train.parts():
        gram.addmm_(part.T, part)
        moments.addmm_(part.T, targets[place : place + len(part)] - centre)
        place += len(part)
    values, axes = torch.linalg.eigh(gram)
    # A matrix of fewer models than features has eigenvalues that are 0 up to rounding, of either sign.
    shrunk = (axes.T @ moments) / (values.clamp(min=0)[:, None] + alphas[:, None, None])
    path = axes @ shrunk
    found = (val @ path.permute(1, 0, 2).flatten(1)).unflatten(1, (len(alphas), -1))
    best = (found + centre - val_targets[:, None]).square().sum(dim=0).argmin(dim=0)
    return Ridge(path[best, :, torch.arange(len(centre))].T, centre, alphas[best])
