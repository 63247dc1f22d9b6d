"""The embedder: reading, encoder, aggregator, projection head and an optional regression head in one module."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from peace.aggregators import AGGREGATORS
from peace.encoders import ENCODERS
from peace.graph.reading import Reading
from peace.graph.stack import Stack
from peace.registry import arguments


@dataclass(frozen=True)
class HeadConfig:
    """The projection head that is trained on and thrown away (Chen et al. 2020, arXiv:2002.05709).

    Attributes:
        hidden_dim: Size of its hidden layer.
        projection_dim: P.
    """

    hidden_dim: PositiveInt = 128
    projection_dim: PositiveInt = 64


@dataclass(frozen=True)
class RegressionConfig:
    """The regression head g_φ(z) of paper a, 3.4.

    Attributes:
        targets: Columns of the manifest that it predicts, standardised over the training models.
        weight: λ.
        hidden_dim: Size of its hidden layer.
    """

    targets: list[str] = field(default_factory=list)
    weight: NonNegativeFloat = 0.0
    hidden_dim: PositiveInt = 64


class Embedder(nn.Module):
    """Weights in, one vector out.

    Embeddings come after the aggregator, projections after the head: it is trained on projections and evaluated on
    embeddings. With the default reading, embeddings do not change under the whole symmetry group of the weights
    where the wiring is known; of a file that a layer-wise encoder reads, only under the order of neurons.

    Args:
        reading: The form in which weights are read.
        encoder: Stack -> tokens [B, L, T].
        aggregator: Tokens -> embeddings [B, D].
        embedding_dim: D.
        head: Sizes of the projection head.
        regression: Targets and size of the regression head; without targets there is none.
    """

    def __init__(
        self,
        reading: Reading,
        encoder: nn.Module,
        aggregator: nn.Module,
        embedding_dim: int,
        head: HeadConfig,
        regression: RegressionConfig,
    ) -> None:
        super().__init__()
        self.reading, self.encoder, self.aggregator = reading, encoder, aggregator
        self.embedding_dim = embedding_dim
        self.head = _perceptron(embedding_dim, head.hidden_dim, head.projection_dim)
        targets = len(regression.targets)
        self.regressor = _perceptron(embedding_dim, regression.hidden_dim, targets) if targets else None

    def embed(self, batch: Sequence[Stack]) -> Tensor:
        """Returns embeddings of all models of a mixed batch, stack after stack. Shape: [B, D]."""
        return torch.cat([self.aggregator(self.encoder(self.reading(stack))) for stack in batch])

    def project(self, embeddings: Tensor) -> Tensor:
        """Returns projections, which the loss compares. Shape: [B, D] -> [B, P]."""
        return self.head(embeddings)

    def predict(self, embeddings: Tensor) -> Tensor:
        """Returns predictions of the regression targets, standardised. Shape: [B, D] -> [B, targets].

        Raises:
            ValueError: The embedder has no regression head.
        """
        if self.regressor is None:
            raise ValueError("this embedder has no regression head")
        return self.regressor(embeddings)


def build_embedder(config: Mapping[str, Any]) -> Embedder:
    """Returns a fresh embedder from the nodes `graph`, `encoder`, `aggregator`, `head` and `regression` of a config.

    Raises:
        InputError: A name or an argument is unknown or of the wrong type.
    """
    reading = Reading(**arguments(Reading, config["graph"], "graph"))
    head = HeadConfig(**arguments(HeadConfig, config["head"], "head"))
    regression = RegressionConfig(**arguments(RegressionConfig, config["regression"], "regression"))
    encoder = ENCODERS.build(config["encoder"])
    aggregator = AGGREGATORS.build(config["aggregator"], input_dim=encoder.output_dim)
    dim = aggregator(torch.zeros(1, 1, encoder.output_dim)).shape[1]
    return Embedder(reading, encoder, aggregator, dim, head, regression)


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))
