import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from peace import seeding
from peace.embeddings.rows import label_codes
from peace.embeddings.similarity import cosine, rank, tie_stream


def test_cosine_agrees_with_sklearn() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, gallery = torch.randn(5, 8, generator=generator), torch.randn(7, 8, generator=generator)
    np.testing.assert_allclose(
        cosine(queries, gallery), cosine_similarity(queries.double(), gallery.double()), atol=1e-12
    )


@pytest.mark.parametrize("count", [3, 17, 129])
def test_equal_directions_have_exactly_equal_similarities(count: int) -> None:
    direction = torch.randn(1, 67, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gallery = direction * torch.arange(1, count + 1)[:, None]
    scores = cosine(torch.randn(5, 67, generator=torch.Generator().manual_seed(1)), gallery)
    assert (scores == scores[:, :1]).all()


def test_cosine_tells_nearly_equal_directions_apart() -> None:
    gallery = torch.tensor([[1.0, 2e-5], [1.0, 1e-5], [1.0, 3e-5]])
    assert rank(cosine(torch.tensor([[1.0, 0.0]]), gallery), seeding.keys([0])).tolist() == [[1, 0, 2]]


def test_rank_sorts_by_falling_score_and_draws_ties_uniformly() -> None:
    scores = torch.tensor([0.5, 2.0, 0.5, -1.0, 0.5]).expand(30_000, -1)
    order = rank(scores, seeding.keys(torch.arange(30_000), "test"))
    assert (order[:, 0] == 1).all()
    assert (order[:, 4] == 3).all()
    _, counts = order[:, 1:4].unique(dim=0, return_counts=True)
    # Six orders, 5,000 each expected; the standard deviation of one count is 65.
    assert len(counts) == 6
    assert (counts - 5000).abs().max() < 300


def test_a_query_ranks_alike_alone_and_among_others() -> None:
    scores = torch.zeros(3, 9)
    stream = tie_stream(["a", "b", "c"], "test", 4)
    together = rank(scores, stream)
    assert torch.equal(rank(scores[1:2], tie_stream(["b"], "test", 4)), together[1:2])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(rank(scores, tie_stream(["a", "b", "c"], "test", 5)), together)


def test_codes_are_equal_where_labels_are_and_missing_labels_equal_nothing() -> None:
    queries = pd.Series(["a", None, "c", float("nan")], dtype=object)
    gallery = pd.Series(["c", None, "a", "a", float("nan")], dtype=object)
    of_queries, of_gallery = label_codes(queries, gallery)
    assert (of_queries[:, None] == of_gallery).tolist() == [
        [False, False, True, True, False],
        [False] * 5,
        [True, False, False, False, False],
        [False] * 5,
    ]
