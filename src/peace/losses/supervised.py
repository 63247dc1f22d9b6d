"""Supervised contrast: each view finds all views of the models that share its weak label."""

import torch
from pydantic import PositiveFloat
from torch import Tensor

from peace.losses import LOSSES, Loss
from peace.losses.contrast import compared, of_all_views_and_memory, partners, soft_cross_entropy
from peace.losses.pairs import Pairs


@LOSSES.register("supervised")
class Supervised(Loss):
    """Supervised contrast with weak labels from the manifest.

    Mean over the 2N views i of -1/|P(i)| Σ_{p∈P(i)} log exp(sim(z_i, z_p)/τ) / Σ_{k≠i} exp(sim(z_i, z_k)/τ). P(i) holds
    the other view of the model and both views of every model with the same label; a model without a label has its own
    other view alone. Models of a memory are further k, and p where they have the label.

    Args:
        label: Column of the manifest, such as `task` or `recipe`.
        temperature: τ, or where it starts.
        learned_temperature: Whether τ is trained.

    Reference:
        Khosla et al. 2020, arXiv:2004.11362, equation 2 (L_out), which is summed over i there and averaged here. A
        memory as in Wang et al. 2020, arXiv:1912.06798.
    """

    def __init__(
        self, label: str = "task", temperature: PositiveFloat = 0.1, learned_temperature: bool = False
    ) -> None:
        super().__init__(temperature, learned_temperature)
        self.label = label

    def forward(self, pairs: Pairs) -> Tensor:
        """Returns the loss."""
        logits = of_all_views_and_memory(pairs, self.temperature())
        views, others = compared(pairs)
        alike = (views.labels[:, None] == others.labels) & (views.labels[:, None] >= 0)
        alike[torch.arange(len(alike), device=alike.device), partners(pairs)] = True
        positives = (alike & (logits != -torch.inf)).to(logits)
        return soft_cross_entropy(logits, positives / positives.sum(1, keepdim=True))
