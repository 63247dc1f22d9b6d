"""The embedder: reading, encoder, aggregator, projection head and an optional regression head in one module."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from peace.aggregators import AGGREGATORS
from peace.encoders import ENCODERS, Autoencoding, NodeAutoencoding
from peace.errors import InputError
from peace.graph.reading import Reading
from peace.graph.stack import Stack
from peace.registry import arguments

NODES = ("graph", "encoder", "aggregator", "head", "regression", "decoder")
"""Nodes of a config that shape an embedder."""


@dataclass(frozen=True)
class HeadConfig:
    """The projection head that is trained on and thrown away (Chen et al. 2020, arXiv:2002.05709).

    Attributes:
        hidden_dim: Size of its hidden layers.
        projection_dim: P.
        num_layers: Linear layers.
        batch_norm: Whether each is followed by batch normalisation, as in the authors' code of paper c; then ReLU
            stands between them, else GELU.
    """

    hidden_dim: PositiveInt = 128
    projection_dim: PositiveInt = 64
    num_layers: PositiveInt = 2
    batch_norm: bool = False


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


@dataclass(frozen=True)
class DecoderConfig:
    """The decoder that gives weights back (paper c, section 3).

    Attributes:
        beta: β, what reconstruction counts beside contrast: L = β L_MSE + (1 - β) L_c. 0 is E_c, which has no
            decoder; 1 is E_D, which has no contrast.
        augmentation: How the views differ that it learns from, one of each model of a batch: names and arguments; None:
            it learns from those that are contrasted, as in the paper.
    """

    beta: Annotated[float, Field(ge=0, le=1)] = 0.0
    augmentation: Any = None


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
        decoder: Whether there is one.

    Raises:
        InputError: There should be a decoder, and the encoder has none.
    """

    def __init__(
        self,
        reading: Reading,
        encoder: nn.Module,
        aggregator: nn.Module,
        embedding_dim: int,
        head: HeadConfig,
        regression: RegressionConfig,
        decoder: DecoderConfig = DecoderConfig(),
    ) -> None:
        super().__init__()
        self.reading, self.encoder, self.aggregator = reading, encoder, aggregator
        self.embedding_dim = embedding_dim
        self.head = _head(embedding_dim, head)
        self.decoder = _decoder(encoder, embedding_dim) if decoder.beta else None
        targets = len(regression.targets)
        self.regressor = _perceptron(embedding_dim, regression.hidden_dim, targets) if targets else None

    def embed(self, batch: Sequence[Stack]) -> Tensor:
        """Returns embeddings of all models of a mixed batch, stack after stack. Shape: [B, D]."""
        return torch.cat([self.aggregator(self.encoder(self.reading(stack))) for stack in batch])

    def autoencode(self, batch: Sequence[Stack]) -> tuple[Tensor, list[Stack]]:
        """Returns embeddings of all models of a mixed batch, and the models that they are decoded to.

        Models come and go in the form of the reading: weights themselves only where that leaves them as they are.

        Raises:
            ValueError: The embedder has no decoder.
        """
        if self.decoder is None:
            raise ValueError("this embedder has no decoder")
        embeddings, decoded = [], []
        for stack in map(self.reading, batch):
            tokens, *nodes = self._read(stack)
            embeddings.append(self.aggregator(tokens))
            decoded.append(self.decoder(embeddings[-1], stack, *nodes))
        return torch.cat(embeddings), decoded

    def decode(self, embeddings: Tensor, batch: Sequence[Stack]) -> list[Stack]:
        """Returns what `autoencode` decodes a batch to, its embeddings being known. Shape: [B, D] -> B models.

        A decoder that takes states of nodes too reads them from the models again, and the embeddings with them.

        Raises:
            ValueError: The embedder has no decoder.
        """
        if self.decoder is None or isinstance(self.encoder, NodeAutoencoding):
            return self.autoencode(batch)[1]
        parts = embeddings.split([len(stack) for stack in batch])
        return [self.decoder(part, self.reading(stack)) for part, stack in zip(parts, batch, strict=True)]

    def _read(self, stack: Stack) -> tuple[Tensor] | tuple[Tensor, Sequence[Tensor]]:
        """Tokens, and what an encoder knows of each node, which is for its decoder alone."""
        return self.encoder.read(stack) if isinstance(self.encoder, NodeAutoencoding) else (self.encoder(stack),)

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
    """Returns a fresh embedder from the nodes that shape it: `NODES`.

    Raises:
        InputError: A name or an argument is unknown or of the wrong type.
    """
    reading = Reading(**arguments(Reading, config["graph"], "graph"))
    head = HeadConfig(**arguments(HeadConfig, config["head"], "head"))
    regression = RegressionConfig(**arguments(RegressionConfig, config["regression"], "regression"))
    decoder = DecoderConfig(**arguments(DecoderConfig, config.get("decoder", {}), "decoder"))
    encoder = ENCODERS.build(config["encoder"])
    aggregator = AGGREGATORS.build(config["aggregator"], input_dim=encoder.output_dim)
    dim = aggregator(torch.zeros(1, 1, encoder.output_dim)).shape[1]
    return Embedder(reading, encoder, aggregator, dim, head, regression, decoder)


def _decoder(encoder: nn.Module, embedding_dim: int) -> nn.Module:
    if not isinstance(encoder, Autoencoding):
        raise InputError("the encoder has no decoder", got=type(encoder).__name__, do="set decoder.beta=0")
    return encoder.decoder(embedding_dim)


def _head(inputs: int, config: HeadConfig) -> nn.Sequential:
    sizes = [inputs, *[config.hidden_dim] * (config.num_layers - 1), config.projection_dim]
    head = nn.Sequential()
    for place, (n_in, n_out) in enumerate(pairwise(sizes)):
        if place:
            head.append(nn.ReLU() if config.batch_norm else nn.GELU())
        head.append(nn.Linear(n_in, n_out))
        if config.batch_norm:
            head.append(nn.BatchNorm1d(n_out))
    return head


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))
