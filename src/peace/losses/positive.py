"""Contrast without negatives (paper c, equation 3)."""

import torch
from torch import Tensor

from peace.losses import LOSSES, Loss
from peace.losses.contrast import directions
from peace.losses.pairs import Pairs


@LOSSES.register("positive")
class Positive(Loss):
    """-sim(z_i, z_j) + ln τ, sim the cosine of the two views of a model, averaged over models.

    Nothing keeps all projections from becoming one, so it stands beside a reconstruction, which does (E_c+D).

    Reference:
        Schürholt et al. 2021, arXiv:2110.15288, equation 3.
    """

    def forward(self, pairs: Pairs) -> Tensor:
        """Returns the loss."""
        cosines = (directions(pairs.first) * directions(pairs.second)).sum(1)
        return torch.as_tensor(self.temperature(), dtype=cosines.dtype).log() - cosines.mean()
