"""InfoNCE in one direction: each first view finds its second view among all second views of the batch."""

import torch
from torch import Tensor
from torch.nn import functional as F

from peace.losses import LOSSES, Loss
from peace.losses.contrast import directions, similarity, with_mass
from peace.losses.pairs import Pairs


@LOSSES.register("info_nce")
class InfoNCE(Loss):
    """One-directional InfoNCE, which compares first views with second views alone.

    -log exp(sim(z_i, z_i⁺)/τ) / Σ_j exp(sim(z_i, z_j⁺)/τ), sim the cosine, j over all N models, i among them. Models
    of a memory, which holds second views, are further j.

    Reference:
        Paper a, 3.4, where it is called NT-Xent; it is summed over i there and averaged here, so that the learning rate
        does not depend on the size of a batch.
    """

    def forward(self, pairs: Pairs) -> Tensor:
        """Returns the loss."""
        first, second, temperature = directions(pairs.first), directions(pairs.second), self.temperature()
        logits = similarity(first, second, temperature)
        logits = with_mass(logits, first, pairs.facts, pairs.memory, temperature)
        return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
