"""How well a query finds the models of its task: every measure with its chance level and a bootstrap interval."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from pandas import DataFrame, Series
from torch import Tensor

from peace.embeddings.ranking import Ranking
from peace.embeddings.rows import check_column, label_codes
from peace.embeddings.similarity import cosine, rank, tie_stream
from peace.embeddings.table import EmbeddingTable
from peace.errors import InputError
from peace.metrics import retrieval as measures
from peace.metrics.bootstrap import bootstrap_interval

_BLOCK = 2**22


@dataclass(frozen=True)
class Score:
    """A measure's mean over queries.

    Attributes:
        value: The mean.
        chance: What a uniformly random ranking reaches on average, for the same queries and galleries.
        low: Lower end of the 95 % bootstrap interval over queries.
        high: Upper end of that interval.
        queries: The number of queries.
        each: The measure of each query, by its id.
    """

    value: float
    chance: float
    low: float
    high: float
    queries: int
    each: Series = field(compare=False, repr=False)


def retrieve(
    gallery: EmbeddingTable,
    queries: EmbeddingTable,
    relevant_by: str = "task",
    cutoffs: Sequence[int] = (1, 5, 10),
    seed: int = 0,
) -> dict[str, Score]:
    """Returns the scores of an exact search by inner product for each query in the gallery.

    The gallery of a query is without the model of its id and without all models of its `run_id`: two epochs of one
    training are one model. Relevant are the models with the same label. Equal similarities are ranked at random.

    Args:
        gallery: The models that are searched.
        queries: The models to search with; they may be in the gallery as well.
        relevant_by: The column of labels.
        cutoffs: The ranks k at which precision and recall are measured.
        seed: Decides the order of equal similarities and the bootstrap's resamples.

    Returns:
        Scores called `precision@k` and `recall@k` for each k, `map@r` (R is the number of relevant models) and `mrr`.

    Raises:
        InputError: The tables differ in dimension, there are no queries, a column is missing, or a query has an empty
            gallery or no relevant model.
    """
    if gallery.vectors.shape[1] != queries.vectors.shape[1]:
        raise InputError(
            "gallery and queries have different dimensions",
            got=f"{gallery.vectors.shape[1]} and {queries.vectors.shape[1]}",
            do="make both tables with one encoder",
        )
    stream = tie_stream(queries.rows["id"], "retrieval", seed)

    def order(block: Tensor) -> Tensor:
        return rank(cosine(queries.vectors[block], gallery.vectors), stream[block])

    return _score(order, _Judge(queries.rows, gallery.rows, relevant_by), cutoffs, seed)


def score_ranking(
    ranking: Ranking, relevant_by: str = "task", cutoffs: Sequence[int] = (1, 5, 10), seed: int = 0
) -> dict[str, Score]:
    """Returns the scores of a ranking, by the same protocol as `retrieve`.

    Args:
        ranking: The whole gallery in the order of each query.
        relevant_by: The column of labels.
        cutoffs: The ranks k at which precision and recall are measured.
        seed: Decides the bootstrap's resamples.

    Raises:
        InputError: There are no queries, a column is missing, or a query has an empty gallery or no relevant model.
    """
    judge = _Judge(ranking.queries, ranking.gallery, relevant_by)
    return _score(lambda block: ranking.order[block], judge, cutoffs, seed)


class _Judge:
    """Says which gallery models are excluded for a query, and which are relevant."""

    def __init__(self, queries: DataFrame, gallery: DataFrame, relevant_by: str) -> None:
        if queries.empty:
            raise InputError("no queries to score")
        for rows, name in ((queries, "the queries"), (gallery, "the gallery")):
            check_column(rows, relevant_by, name)
        self.ids = queries["id"].tolist()
        self.gallery = len(gallery)
        self.relevant_by = relevant_by
        self.label = label_codes(queries[relevant_by], gallery[relevant_by])
        self.same = [label_codes(queries[column], gallery[column]) for column in ("id", "run_id")]

    def blocks(self) -> Iterator[Tensor]:
        """Returns query positions in blocks whose [queries, gallery] matrices fit in memory."""
        yield from torch.arange(len(self.ids)).split(max(1, _BLOCK // max(1, self.gallery)))

    def relevance(self, block: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Returns ranked relevance with what is excluded moved to the end, and the gallery sizes that are left."""
        excluded = torch.zeros(len(block), self.gallery, dtype=torch.bool)
        for query, gallery in self.same:
            excluded |= query[block, None] == gallery
        relevant = (self.label[0][block, None] == self.label[1]) & ~excluded
        sizes = (~excluded).sum(dim=1)
        self._refuse(block[sizes == 0], "an empty gallery once its own run is left out")
        self._refuse(block[~relevant.any(dim=1)], f"no relevant model, none of another run with its {self.relevant_by}")
        kept_first = excluded.gather(1, order).byte().argsort(dim=1, stable=True)
        return relevant.gather(1, order).gather(1, kept_first), sizes

    def _refuse(self, queries: Tensor, reason: str) -> None:
        if len(queries):
            name = self.ids[int(queries[0])]
            raise InputError(f"query '{name}' has {reason}", do="leave it out or widen the gallery")


def _score(order: Callable[[Tensor], Tensor], judge: _Judge, cutoffs: Sequence[int], seed: int) -> dict[str, Score]:
    if any(k < 1 for k in cutoffs):
        raise InputError("a cut-off is too small", got=min(cutoffs), expected="1 or more")
    blocks = [_measure(*judge.relevance(block, order(block)), cutoffs) for block in judge.blocks()]
    values, chances = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    low, high = bootstrap_interval(values, "retrieval", seed)
    columns = zip(*(x.tolist() for x in (values.mean(dim=0), chances.mean(dim=0), low, high)), strict=True)
    names = [f"precision@{k}" for k in cutoffs] + [f"recall@{k}" for k in cutoffs] + ["map@r", "mrr"]
    each = (Series(column.numpy(), index=judge.ids) for column in values.T)
    return {name: Score(*column, len(values), own) for name, column, own in zip(names, columns, each, strict=True)}


def _measure(relevance: Tensor, sizes: Tensor, cutoffs: Sequence[int]) -> tuple[Tensor, Tensor]:
    relevant = relevance.sum(dim=1)
    values = [
        *(measures.precision_at_k(relevance, k) for k in cutoffs),
        *(measures.recall_at_k(relevance, k) for k in cutoffs),
        measures.map_at_r(relevance),
        measures.mrr(relevance),
    ]
    chances = [
        *(measures.chance_precision_at_k(relevant, sizes, k) for k in cutoffs),
        *(measures.chance_recall_at_k(sizes, k) for k in cutoffs),
        measures.chance_map_at_r(relevant, sizes),
        measures.chance_mrr(relevant, sizes),
    ]
    return torch.stack(values, dim=1), torch.stack(chances, dim=1)
