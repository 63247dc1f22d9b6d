import math
from collections import Counter

import pytest
import torch

from peace.errors import InputError
from peace.index.bm25_index import Bm25Index

DOCUMENTS = [
    "resnet18 trained on CIFAR-10",
    "vgg trained on svhn",
    "mlp for digits 3 and 7, digits again",
    "transformer_encoder for text",
    "",
]


def by_formula(query: list[str], documents: list[list[str]]) -> list[float]:
    """Returns Lucene's BM25 scores as the formula says."""
    average = sum(map(len, documents)) / len(documents)
    scores = [0.0] * len(documents)
    for word in query:
        containing = sum(word in document for document in documents)
        idf = math.log(1 + (len(documents) - containing + 0.5) / (containing + 0.5))
        for place, document in enumerate(documents):
            count = Counter(document)[word]
            scores[place] += idf * count / (count + 1.5 * (1 - 0.75 + 0.75 * len(document) / average))
    return scores


def test_documents_come_by_falling_score() -> None:
    words = [
        ["resnet18", "trained", "on", "cifar-10"],
        ["vgg", "trained", "on", "svhn"],
        ["mlp", "for", "digits", "3", "and", "7", "digits", "again"],
        ["transformer", "encoder", "for", "text"],
        [],
    ]
    for query in (["trained", "cifar-10", "digits"], ["for", "7", "3"], ["encoder", "on"]):
        scores = by_formula(query, words)
        order = Bm25Index(DOCUMENTS).rank([" ".join(query)], 0)[0].tolist()
        assert sorted(order) == list(range(5))
        assert [scores[place] for place in order] == sorted(scores, reverse=True)


def test_words_match_whatever_their_case_and_separator() -> None:
    order = Bm25Index(DOCUMENTS).rank(["Transformer", "SVHN!", "CIFAR-10", "7"], 0)
    assert order[:, 0].tolist() == [3, 1, 0, 2]


@pytest.mark.parametrize("query", ["", "   ", "unknown words", "!?"])
def test_a_query_without_shared_words_is_ranked_at_random(query: str) -> None:
    order = Bm25Index(["a", "b", "c"]).rank([query] * 6000, 0)
    _, counts = order.unique(dim=0, return_counts=True)
    # Six orders, 1,000 each expected; the standard deviation of one count is 29.
    assert len(counts) == 6
    assert (counts - 1000).abs().max() < 150


def test_ties_do_not_leak_the_order_of_rows() -> None:
    documents = ["cat"] * 50 + ["dog"] * 50 + ["bird"] * 100
    order = Bm25Index(documents).rank(["cat"] * 400, 0)
    assert (order[:, :50].sort(dim=1).values == torch.arange(50)).all()
    # The first of the remaining 150 is a dog one time in three.
    assert (order[:, 50] < 100).double().mean().item() == pytest.approx(1 / 3, abs=0.1)


def test_the_order_is_a_function_of_the_seed() -> None:
    index = Bm25Index(DOCUMENTS * 10)
    queries = ["digits", "trained", ""]
    assert torch.equal(index.rank(queries, 1), index.rank(queries, 1))
    assert not torch.equal(index.rank(queries, 1), index.rank(queries, 2))
    assert torch.equal(index.rank(queries[:1], 1), index.rank(queries, 1)[:1])
    assert index.rank([], 1).shape == (0, 50)


def test_documents_without_words_are_all_ties() -> None:
    order = Bm25Index(["", "--"]).rank(["word"] * 200, 0)
    assert 50 < order[:, 0].sum().item() < 150


def test_no_documents_are_refused() -> None:
    with pytest.raises(InputError, match="no texts to index"):
        Bm25Index([])


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    Bm25Index(DOCUMENTS).rank(["digits"], 0)
    assert capfd.readouterr() == ("", "")
