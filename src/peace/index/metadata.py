"""The metadata baseline: what a search over model pages finds when some pages say nothing of their data set."""

import pandas as pd
import torch

from peace import seeding
from peace.embeddings.ranking import Ranking
from peace.errors import InputError
from peace.index.bm25_index import Bm25Index


def share(missing: float) -> float:
    """Returns a share of missing tags as it is.

    Raises:
        InputError: It is not a probability.
    """
    if not 0 <= missing <= 1:
        raise InputError("not a share of missing tags", got=missing, expected="a number from 0 to 1")
    return missing


def rank_by_metadata(gallery: pd.DataFrame, queries: pd.DataFrame, missing: float, seed: int, zoo: str) -> Ranking:
    """Returns BM25's ranking of the gallery for each query's own page.

    A page holds the architecture's name and, unless they are missing, the tags of the data set and its classes. With
    every tag present the label itself is being searched, so report several shares of missing ones.

    Args:
        gallery: One row per model, with at least `id`, `architecture` and `tags` (a list of words).
        queries: Likewise.
        missing: Probability that a model's page has no data-set tags, drawn by its id.
        seed: Seed of that draw and of the order of ties.
        zoo: The zoo's hash, for the ranking's provenance.

    Raises:
        InputError: `missing` is not a probability.
    """
    share(missing)
    order = Bm25Index(_pages(gallery, missing, seed)).rank(_pages(queries, missing, seed), seed)
    return Ranking(order, queries, gallery, {"producer": "metadata", "missing": missing, "zoo": zoo})


def _pages(rows: pd.DataFrame, missing: float, seed: int) -> list[str]:
    keys = torch.tensor([seeding.key(name) for name in rows["id"]])
    silent = seeding.uniform(seeding.keys(keys, "missing tags", seed), 1, dtype=torch.float64)[:, 0] < missing
    words = zip(rows["architecture"], rows["tags"], silent.tolist(), strict=True)
    return [" ".join([architecture, *([] if quiet else tags)]) for architecture, tags, quiet in words]
