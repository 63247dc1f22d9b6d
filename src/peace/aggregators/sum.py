"""The sum of the layers' tokens."""

from pydantic import PositiveInt
from torch import Tensor, nn
from torch_geometric.nn.aggr import SumAggregation

from peace.aggregators import AGGREGATORS
from peace.aggregators.flat import flat


@AGGREGATORS.register("sum")
class Sum(nn.Module):
    """A linear map of the sum of tokens; sees how many layers there are, but not their order.

    Args:
        input_dim: Size of a token.
        embedding_dim: D.

    Shape:
        [B, L, input_dim] -> [B, D].
    """

    def __init__(self, input_dim: int, embedding_dim: PositiveInt = 128) -> None:
        super().__init__()
        self.total = SumAggregation()
        self.project = nn.Linear(input_dim, embedding_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns embeddings. Shape: [B, D]."""
        rows, model = flat(tokens)
        return self.project(self.total(rows, model, dim_size=len(tokens)))
