"""Rankings of texts by BM25: what the words of a model card find without looking at a weight."""

import re

import torch
from torch import Tensor

from peace import seeding
from peace.embeddings.similarity import rank
from peace.errors import InputError

_WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")


class Bm25Index:
    """Texts that can be ranked by the words that they share with a query.

    Args:
        documents: One text per gallery model. A word is a run of letters and digits, in lower case.

    Raises:
        InputError: There is no document.

    Reference:
        Robertson and Zaragoza 2009, *The Probabilistic Relevance Framework*, with Lucene's idf, which is never
        negative; k1 = 1.5, b = 0.75. Package: Lù 2024, arXiv:2407.03618.
    """

    def __init__(self, documents: list[str]) -> None:
        """Counts the words of the documents."""
        if not documents:
            raise InputError("no texts to index", do="choose a gallery that holds models")
        self.count = len(documents)
        words = [_words(text) for text in documents]
        self._scorer = None
        if any(words):
            import bm25s  # here, because it imports numba, and few commands rank texts

            self._scorer = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
            self._scorer.index(words, show_progress=False)

    def rank(self, queries: list[str], seed: int) -> Tensor:
        """Returns the documents of each query by falling score, equal scores in random order.

        A document that shares no word with the query scores 0.

        Args:
            queries: One text per query.
            seed: Decides, with the place of the query in the list, the order of equal scores.

        Shape:
            [Q, G] int64 positions of documents.
        """
        scores = torch.stack([self._scores(query) for query in queries]) if queries else torch.zeros(0, self.count)
        return rank(scores, seeding.keys(list(range(len(queries))), "bm25", seed))

    def _scores(self, query: str) -> Tensor:
        words = _words(query)
        if self._scorer is None or not words:
            return torch.zeros(self.count)
        return torch.from_numpy(self._scorer.get_scores(words))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
