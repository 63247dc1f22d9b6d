"""The mean of the layers' tokens."""

from pydantic import PositiveInt
from torch import Tensor, nn

from peace.aggregators import AGGREGATORS


@AGGREGATORS.register("mean")
class Mean(nn.Module):
    """A linear map of the mean token; blind to the order of layers.

    Args:
        input_dim: Size of a token.
        embedding_dim: D.

    Shape:
        [B, L, input_dim] -> [B, D].
    """

    def __init__(self, input_dim: int, embedding_dim: PositiveInt = 128) -> None:
        super().__init__()
        self.project = nn.Linear(input_dim, embedding_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns embeddings. Shape: [B, D]."""
        return self.project(tokens.mean(1))
