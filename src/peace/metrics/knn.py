"""How well a model's label can be read off its nearest neighbours."""

import torch
from numpy.typing import ArrayLike
from pandas import Series
from torch import Tensor
from torch.nn.functional import one_hot

from peace.embeddings.rows import label_codes
from peace.embeddings.similarity import cosine, rank, tie_stream
from peace.errors import InputError

_BLOCK = 2**22


def knn_accuracy(vectors: Tensor, labels: ArrayLike, groups: ArrayLike, neighbours: int = 5, seed: int = 0) -> float:
    """Returns the share of models whose label is the majority among their nearest neighbours by cosine.

    Neighbours of the same group, such as other epochs of one training run, do not vote. Among labels with equally many
    votes the one of the nearest neighbour wins; equally near neighbours come in random order. Where fewer neighbours
    are left, those vote.

    Args:
        vectors: Embeddings, not zero.
        labels: One label per model.
        groups: One group per model; a missing group is one of its own.
        neighbours: How many vote.
        seed: Decides the order of equally near neighbours.

    Raises:
        InputError: A label is missing, numbers do not match, or a model is left without neighbours.

    Shape:
        [G, D], [G] and [G] to a number.
    """
    labels, groups = Series(labels), Series(groups)
    if neighbours < 1 or not 0 < len(labels) == len(groups) == len(vectors):
        got = f"{len(vectors)} vectors, {len(labels)} labels, {len(groups)} groups, {neighbours} neighbours"
        raise InputError("no nearest neighbours to ask", got=got, expected="as many of each, at least one")
    if labels.isna().any():
        raise InputError("a model has no label", where=f"row {int(labels.isna().argmax())}")
    label, _ = label_codes(labels, labels)
    group, other_group = label_codes(groups, groups)
    stream = tie_stream(range(len(label)), "knn", seed)
    rows = torch.arange(len(label))
    correct = 0
    for block in rows.split(max(1, _BLOCK // len(label))):
        excluded = (group[block, None] == other_group) | (block[:, None] == rows)
        scores = cosine(vectors[block], vectors).masked_fill(excluded, -torch.inf)
        nearest = rank(scores, stream[block])[:, :neighbours]
        voting = ~excluded.gather(1, nearest)
        if not voting[:, 0].all():
            alone = int(block[(~voting[:, 0]).int().argmax()])
            raise InputError(f"row {alone} has no neighbour outside its group '{groups.iloc[alone]}'")
        correct += int((_majority(label[nearest], voting) == label[block]).sum())
    return correct / len(label)


def _majority(label: Tensor, voting: Tensor) -> Tensor:
    votes = (one_hot(label) * voting[..., None]).sum(dim=1)
    # The first maximum is the nearest one; who does not vote comes last.
    winner = votes.gather(1, label).argmax(dim=1, keepdim=True)
    return label.gather(1, winner)[:, 0]
