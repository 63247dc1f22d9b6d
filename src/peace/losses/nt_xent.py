"""NT-Xent: each view finds its partner among all other views of the batch."""

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from peace.losses import LOSSES


@LOSSES.register("nt_xent")
class NTXent(nn.Module):
    """Normalised temperature-scaled cross entropy over 2N views.

    -log exp(sim(z_i, z_j)/τ) / Σ_{k≠i} exp(sim(z_i, z_k)/τ), sim the cosine, averaged over both directions of all
    pairs. It is computed in float32 at least, under autocast too.

    Args:
        temperature: τ.

    Shape:
        Two views of N models, [N, P] each -> scalar.

    Reference:
        Chen et al. 2020, arXiv:2002.05709, equation 1; Schürholt et al. 2021, arXiv:2110.15288, equation 2.
    """

    def __init__(self, temperature: PositiveFloat = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Returns the loss."""
        exact = torch.promote_types(first.dtype, torch.float32)
        views = F.normalize(torch.cat([first, second]).to(exact), dim=1)
        with torch.autocast(views.device.type, enabled=False):
            similarity = (views @ views.T / self.temperature).fill_diagonal_(-torch.inf)
        partner = torch.arange(len(views), device=views.device).roll(len(first))
        return F.cross_entropy(similarity, partner)
