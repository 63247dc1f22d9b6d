"""A plain perceptron over all weights of a model (paper c, FF), and its decoder."""

from itertools import pairwise
from typing import ClassVar

from pydantic import PositiveInt
from torch import Tensor, nn

from peace.encoders import ENCODERS, Symmetry
from peace.encoders.raw import folded
from peace.encoders.weight_transformer import checked
from peace.graph.sequences import vector
from peace.graph.stack import Stack


@ENCODERS.register("feed_forward")
class FeedForward(nn.Module):
    """All weights and biases of a model in a row through fully connected layers with ReLU, of linearly falling sizes.

    It knows no symmetry. Made for networks of one size; shorter ones are followed by zeros, longer ones folded as in
    `raw`.

    Args:
        hidden_dim: Size of the last layer.
        num_layers: Number of layers, each with ReLU.
        max_weights: Weights and biases of the largest network, N.

    Shape:
        Stack of B models -> [B, 1, hidden_dim].

    Reference:
        Schürholt et al. 2021, arXiv:2110.15288, section 4.2: "symmetrical 10 [FC-ReLU]-layers each and linearly reduce
        dimensionality for the input to the latent space"; initial values (He et al. 2015, arXiv:1502.01852) are ours.
    """

    symmetries: ClassVar[frozenset[Symmetry]] = frozenset()

    def __init__(
        self, hidden_dim: PositiveInt = 64, num_layers: PositiveInt = 10, max_weights: PositiveInt = 512
    ) -> None:
        super().__init__()
        self.output_dim, self.max_weights = hidden_dim, max_weights
        self.widths = [round(max_weights + (hidden_dim - max_weights) * k / num_layers) for k in range(num_layers + 1)]
        self.layers = _layers(self.widths)

    def forward(self, stack: Stack) -> Tensor:
        """Returns one token a model."""
        return self.layers(folded([vector(stack)], self.max_weights))[:, None]

    def decoder(self, embedding_dim: int) -> "FeedForwardDecoder":
        """Returns a fresh decoder of the same sizes."""
        return FeedForwardDecoder([embedding_dim, *reversed(self.widths)])


class FeedForwardDecoder(nn.Module):
    """The embedding and the encoder's sizes in reverse as layers with ReLU, and a linear one: weights may be negative.

    So it has two linear maps more than the encoder: one from the embedding, and the last.

    Args:
        widths: Sizes from the embedding to N.
    """

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_layers(widths), nn.Linear(widths[-1], widths[-1]))

    def forward(self, embeddings: Tensor, like: Stack) -> Stack:
        """Returns the models that embeddings stand for. Shape: [B, D] -> B models of the graph of `like`.

        Raises:
            InputError: The network is larger than what the decoder was made for.
        """
        return checked(self.layers(embeddings), like, "encoder.max_weights")


def _layers(widths: list[int]) -> nn.Sequential:
    layers = nn.Sequential()
    for n_in, n_out in pairwise(widths):
        layers.append(nn.Linear(n_in, n_out))
        nn.init.kaiming_normal_(layers[-1].weight, nonlinearity="relu")
        layers.append(nn.ReLU())
    return layers
