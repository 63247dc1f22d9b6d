"""Contrast without negatives (paper c, equation 3)."""

import math

from pydantic import PositiveFloat
from torch import Tensor

from peace.errors import InputError
from peace.losses import LOSSES, Loss
from peace.losses.contrast import directions
from peace.losses.pairs import Pairs


@LOSSES.register("positive")
class Positive(Loss):
    """-sim(z_i, z_j) + ln τ, sim the cosine of the two views of a model, averaged over models.

    Nothing keeps all projections from becoming one, so it stands beside a reconstruction, which does (E_c+D).

    Args:
        temperature: τ, which only adds a constant.
        learned_temperature: Must be False.

    Raises:
        InputError: τ is to be learned, of which the loss has no least value.

    Reference:
        Schürholt et al. 2021, arXiv:2110.15288, equation 3.
    """

    negatives = False

    def __init__(self, temperature: PositiveFloat = 0.1, learned_temperature: bool = False) -> None:
        if learned_temperature:
            raise InputError("a loss without negatives has no temperature to learn", got=True, expected=False,
                             where="'loss.learned_temperature'")  # fmt: skip
        super().__init__(temperature)

    def forward(self, pairs: Pairs) -> Tensor:
        """Returns the loss."""
        cosines = (directions(pairs.first) * directions(pairs.second)).sum(1)
        return math.log(self.temperature.start) - cosines.mean()
