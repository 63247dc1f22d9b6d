"""The uniform draw of a related model."""

import torch
from torch import Tensor


def draw_relatives(models: Tensor, related: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Returns for each model one of its relatives with the given probability, else the model itself.

    Args:
        models: Shape [N] int64.
        related: Which of the G models are relatives of each. Shape: [N, G] bool.
        probability: Of taking a relative where there is one.
        generator: CPU generator.

    Returns:
        Shape [N] int64.
    """
    draws = torch.rand(related.shape, generator=generator).masked_fill_(~related, -1.0)
    best = draws.max(dim=1)
    switch = torch.rand(len(models), generator=generator) < probability
    return torch.where(switch & (best.values >= 0), best.indices, models)
