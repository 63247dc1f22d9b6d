"""Contrast whose pairs are weighted by how alike two models perform (paper b, weak supervision)."""

from typing import Annotated

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from peace.losses import LOSSES, Loss
from peace.losses.contrast import compared, of_all_views_and_memory, partners, soft_cross_entropy
from peace.losses.pairs import Pairs


@LOSSES.register("performance")
class Performance(Loss):
    """NT-Xent with soft targets: a part of each view's target goes to models that perform alike.

    Mean over the 2N views i of -Σ_{k≠i} t_ik log exp(sim(z_i, z_k)/τ) / Σ_{l≠i} exp(sim(z_i, z_l)/τ) with targets
    t_ik = (1 - α) [k is the other view of i's model] + α w_ik / Σ_{l≠i} w_il and weights w_ik = exp(-|y_i - y_k| / σ).
    y is a column of the manifest, standardised over the training models. α = 0 is NT-Xent. Models of a memory are
    further k and l.

    Args:
        value: Column of the manifest that y is.
        spread: σ, in standard deviations of y.
        share: α, from 0 to 1.
        temperature: τ, or where it starts.
        learned_temperature: Whether τ is trained.

    Reference:
        Paper b names the idea without an equation. The soft targets at α = 1 are the y-aware InfoNCE of Dufumier et al.
        2021, arXiv:2106.08808, whose kernel is Gaussian.
    """

    def __init__(
        self,
        value: str = "test_accuracy",
        spread: PositiveFloat = 0.5,
        share: Annotated[float, Field(ge=0, le=1)] = 0.5,
        temperature: PositiveFloat = 0.1,
        learned_temperature: bool = False,
    ) -> None:
        super().__init__(temperature, learned_temperature)
        self.value, self.spread, self.share = value, spread, share

    def forward(self, pairs: Pairs) -> Tensor:
        """Returns the loss."""
        logits = of_all_views_and_memory(pairs, self.temperature())
        views, others = compared(pairs)
        distance = (views.values[:, None] - others.values).abs().to(logits) / self.spread
        targets = self.share * F.softmax((-distance).masked_fill(logits == -torch.inf, -torch.inf), dim=1)
        targets[torch.arange(len(targets), device=targets.device), partners(pairs)] += 1 - self.share
        return soft_cross_entropy(logits, targets)
