"""The temperature of a softmax over similarities: a number, or a parameter."""

import math

import torch
from torch import Tensor, nn

_LEAST = 0.01


class Temperature(nn.Module):
    """τ, which is fixed, or learned as exp of a parameter and kept from falling below 0.01.

    Args:
        start: τ, or where it starts.
        learned: Whether it is trained.

    Reference:
        Radford et al. 2021, arXiv:2103.00020, 2.5: log 1/τ is learned there, with the same least value.
    """

    def __init__(self, start: float, learned: bool) -> None:
        super().__init__()
        self.start = start
        self.logarithm = nn.Parameter(torch.tensor(math.log(start))) if learned else None

    def forward(self) -> Tensor | float:
        """Returns τ."""
        return self.start if self.logarithm is None else self.logarithm.exp().clamp_min(_LEAST)
