"""A Set Transformer over the layers' tokens."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch_geometric.nn.aggr import SetTransformerAggregation

from peace.aggregators import AGGREGATORS
from peace.aggregators.depth import DEPTH_DIM, depth_features
from peace.aggregators.flat import flat
from peace.errors import InputError


@AGGREGATORS.register("set_transformer")
class SetTransformer(nn.Module):
    """Attention among the tokens, of learned seeds to the tokens, and among the seeds, whose mean is the embedding.

    PyG's `SetTransformerAggregation` over linear maps of the normalised tokens, to which features of their depth are
    added: a set has no order, a network's layers do.

    Args:
        input_dim: Size of a token.
        embedding_dim: D, also the width of the transformer.
        num_encoders: Blocks of attention among the tokens.
        num_seeds: Seeds.
        num_decoders: Blocks of attention among the seeds.
        num_heads: Attention heads.
        dropout: Dropout rate of the attention weights.

    Shape:
        [B, L, input_dim] -> [B, D].

    Raises:
        InputError: D is no multiple of the heads.

    Reference:
        Lee et al. 2019, arXiv:1810.00825, equations 6 to 11; as a readout Buterez et al. 2022, arXiv:2211.04952.
    """

    def __init__(
        self,
        input_dim: int,
        embedding_dim: PositiveInt = 128,
        num_encoders: NonNegativeInt = 1,
        num_seeds: PositiveInt = 4,
        num_decoders: NonNegativeInt = 1,
        num_heads: PositiveInt = 4,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__()
        if embedding_dim % num_heads:
            got = f"embedding_dim {embedding_dim}, num_heads {num_heads}"
            raise InputError("the embedding does not divide into heads", got=got, expected="a multiple")
        self.project = nn.Sequential(nn.LayerNorm(input_dim), nn.Linear(input_dim, embedding_dim))
        self.depth = nn.Linear(DEPTH_DIM, embedding_dim)
        self.pool = SetTransformerAggregation(
            embedding_dim, num_seeds, num_encoders, num_decoders, num_heads, concat=False, layer_norm=True,
            dropout=dropout,
        )  # fmt: skip

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns embeddings. Shape: [B, D]."""
        models, layers, _ = tokens.shape
        rows, model = flat(self.project(tokens) + self.depth(depth_features(layers, tokens)))
        return self.pool(rows, model, dim_size=models, max_num_elements=layers)
