"""How far the weights that vectors stand for are from those that they were made of."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peace.graph.sequences import vector
from peace.graph.stack import Stack
from peace.models.embedder import Embedder
from peace.models.loading import load_stacks
from peace.zoo.storage import Zoo


def decodes(producer: nn.Module) -> bool:
    """Returns whether weights can be made of a producer's vectors: an embedder with a decoder, linear components."""
    return (isinstance(producer, Embedder) and producer.decoder is not None) or getattr(producer, "invertible", False)


@torch.no_grad()
def squared_errors(
    zoo: Zoo, parts: Sequence[pd.DataFrame], producer: nn.Module, vectors: Tensor
) -> dict[str, np.ndarray]:
    """Returns `squared_error`, Σ(w - ŵ)² of each model, and `squared_deviation`, Σ(w - mean of its split)².

    The sums are over all weights w, in the form in which an embedder reads them, and the ŵ that the producer makes of
    a vector; 1 minus the ratio of their totals over a split is the R² of the reconstruction there. Never more than one
    part is in memory.

    Args:
        zoo: Where the weights lie.
        parts: Rows of the manifest, each of one architecture.
        producer: One that `decodes`.
        vectors: Its embeddings of these models, in order. Shape: [G, D].

    Shape:
        Each [G] float64.
    """
    splits = pd.concat(parts)["split"].to_numpy()
    totals: dict[str, Tensor] = {}
    for part in parts:
        weights = _weights(producer, load_stacks(zoo, part)[0])
        for name, own in part.groupby("split").indices.items():
            totals[name] = _sum(totals.get(name, weights.new_zeros(0)), weights[torch.from_numpy(own)].sum(dim=0))
    means = {name: total / (splits == name).sum() for name, total in totals.items()}
    errors, deviations, place = [], [], 0
    for part in parts:
        stacks, _ = load_stacks(zoo, part)
        weights = _weights(producer, stacks)
        found = _made(producer, stacks, vectors[place : place + len(weights)])
        own = torch.stack([means[name][: weights.shape[1]] for name in part["split"]])
        errors.append((weights - found).square().sum(dim=1))
        deviations.append((weights - own).square().sum(dim=1))
        place += len(weights)
    return {"squared_error": torch.cat(errors).numpy(), "squared_deviation": torch.cat(deviations).numpy()}


def _sum(first: Tensor, second: Tensor) -> Tensor:
    width = max(len(first), len(second))
    return F.pad(first, (0, width - len(first))) + F.pad(second, (0, width - len(second)))


def _weights(producer: nn.Module, stacks: Sequence[Stack]) -> Tensor:
    """All weights of some models of one architecture. Shape: [g, N] float64."""
    if isinstance(producer, Embedder):
        return torch.cat([vector(producer.reading(stack)) for stack in stacks]).double()
    return producer.padded(stacks).double()


def _made(producer: nn.Module, stacks: Sequence[Stack], vectors: Tensor) -> Tensor:
    """The weights that vectors stand for. Shape: [g, N] float64."""
    if isinstance(producer, Embedder):
        return torch.cat([vector(stack) for stack in producer.decode(vectors, stacks)]).double()
    return producer.inverse(vectors)
