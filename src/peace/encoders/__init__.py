"""Encoders: a stack of weight graphs in, one token per layer out, blind to the order of hidden neurons."""

from typing import Protocol

from torch import Tensor, nn

from peace.graph.stack import Stack
from peace.registry import Registry


class Encoder(Protocol):
    """What every encoder offers.

    Attributes:
        output_dim: Size of a token.
    """

    output_dim: int

    def __call__(self, stack: Stack) -> Tensor:
        """Returns tokens in the order of the layers. Shape: [B, L, output_dim]."""
        ...


ENCODERS: Registry[nn.Module] = Registry("encoder", __name__)
