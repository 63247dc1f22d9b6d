"""A few queries with the models that are found for them, for people to look at."""

import numpy as np
from pandas import DataFrame

from peace.embeddings.ranking import Ranking
from peace.embeddings.rows import check_column
from peace.embeddings.similarity import cosine, rank, tie_stream
from peace.embeddings.table import EmbeddingTable
from peace.evaluation.protocols import protocols

_QUERIES, _NEIGHBOURS = 4, 5


def examples(
    found: EmbeddingTable | Ranking, relevant_by: str = "task", seed: int = 0,
    queries: int = _QUERIES, neighbours: int = _NEIGHBOURS,
) -> DataFrame:  # fmt: skip
    """Returns the nearest models of some queries of each protocol, by the rules and in the order of `retrieve`.

    Args:
        found: Embeddings, of which each is ranked by its cosine; or a ranking.
        relevant_by: The column of labels; a model with the query's label is relevant.
        seed: Decides the order of equal cosines.
        queries: How many of each protocol, evenly spread over it.
        neighbours: How many of each.

    Returns:
        Rows with `protocol`, `query`, `query_label`, `rank` (from 1), `neighbour`, `label`, `similarity` (nothing where
        a ranking is all there is) and `relevant`.
    """
    asked, gallery = (found.queries, found.gallery) if isinstance(found, Ranking) else (found.rows, found.rows)
    check_column(asked, relevant_by, "the queries")
    rows = []
    for protocol, mask in protocols(asked).items():
        places = np.flatnonzero(mask)
        for place in places[np.unique(np.linspace(0, len(places) - 1, queries).astype(int))]:
            order, similarity = _ranked(found, int(place), seed)
            query = asked.iloc[place]
            own = (gallery["id"] == query["id"]) | (gallery["run_id"] == query["run_id"])
            kept = order[~own.to_numpy()[order]][:neighbours]
            for nth, other in enumerate(kept, 1):
                model = gallery.iloc[other]
                rows.append({
                    "protocol": protocol, "query": query["id"], "query_label": query[relevant_by], "rank": nth,
                    "neighbour": model["id"], "label": model[relevant_by],
                    "similarity": None if similarity is None else float(similarity[other]),
                    "relevant": bool(model[relevant_by] == query[relevant_by]),
                })  # fmt: skip
    return DataFrame(rows)


def _ranked(found: EmbeddingTable | Ranking, place: int, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The gallery in the order of one query, and its similarity to each model."""
    if isinstance(found, Ranking):
        return found.order[place].numpy(), None
    similarity = cosine(found.vectors[place : place + 1], found.vectors)
    order = rank(similarity, tie_stream(found.rows["id"].iloc[[place]], "retrieval", seed))
    return order[0].numpy(), similarity[0].numpy()
