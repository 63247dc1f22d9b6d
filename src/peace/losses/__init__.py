"""Losses over the projections of two views."""

from pydantic import PositiveFloat
from torch import Tensor, nn

from peace.losses.pairs import Pairs
from peace.losses.temperature import Temperature
from peace.registry import Registry


class Loss(nn.Module):
    """A loss of pairs.

    Args:
        temperature: τ, or where it starts.
        learned_temperature: Whether τ is trained.

    Attributes:
        label: Column of the manifest that models of one kind share, `Facts.labels`; None where it is not used.
        value: Column of the manifest with numbers of the models, `Facts.values`; None where it is not used.
        negatives: Whether models are told from others, such as those of a bank.
    """

    label: str | None = None
    value: str | None = None
    negatives = True

    def __init__(self, temperature: PositiveFloat = 0.1, learned_temperature: bool = False) -> None:
        super().__init__()
        self.temperature = Temperature(temperature, learned_temperature)

    def forward(self, pairs: Pairs) -> Tensor:
        """Returns the loss, a mean over its anchors."""
        raise NotImplementedError


LOSSES: Registry[Loss] = Registry("loss", __name__)
