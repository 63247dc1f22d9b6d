"""All tokens in a row, linearly compressed (paper c, section 3)."""

from pydantic import PositiveInt
from torch import Tensor, nn

from peace.aggregators import AGGREGATORS
from peace.errors import InputError


@AGGREGATORS.register("bottleneck")
class Bottleneck(nn.Module):
    """z = W [t_1, ..., t_n] + b: the embedding of L = `embedding_dim` numbers has room for no more than that.

    Fewer tokens than `max_tokens` are followed by zeros.

    Args:
        input_dim: Size of a token.
        embedding_dim: D; the compression of a network with N weights is c = N / D.
        max_tokens: n at most; 1 for an encoder with a compression token.

    Shape:
        [B, n, input_dim] -> [B, D].

    Reference:
        Schürholt et al. 2021, arXiv:2110.15288, section 3: "linearly compress it to a neural representation". The
        authors' code has a tanh behind; the paper has none.
    """

    def __init__(self, input_dim: int, embedding_dim: PositiveInt = 128, max_tokens: PositiveInt = 16) -> None:
        super().__init__()
        self.max_tokens, self.input_dim = max_tokens, input_dim
        self.compress = nn.Linear(max_tokens * input_dim, embedding_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns embeddings. Shape: [B, D].

        Raises:
            InputError: There are more tokens than places.
        """
        if tokens.shape[1] > self.max_tokens:
            raise InputError("too many tokens for the aggregator", got=tokens.shape[1],
                             expected=f"at most {self.max_tokens}", do="raise aggregator.max_tokens")  # fmt: skip
        flat = tokens.flatten(1)
        return self.compress(nn.functional.pad(flat, (0, self.max_tokens * self.input_dim - flat.shape[1])))
