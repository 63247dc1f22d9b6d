from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from torch import Tensor
from torchmetrics.functional import retrieval as oracle

from peace.metrics import retrieval as measures

SIZES = [(1, 1), (1, 2), (2, 2), (1, 7), (3, 7), (6, 7), (7, 7), (4, 9)]


def every_ranking(relevant: int, gallery: int) -> Tensor:
    """Returns all equally likely placements of the relevant models."""
    ranked = torch.zeros(len(list(combinations(range(gallery), relevant))), gallery, dtype=torch.bool)
    for row, places in enumerate(combinations(range(gallery), relevant)):
        ranked[row, list(places)] = True
    return ranked


def sizes(relevant: int, gallery: int) -> tuple[Tensor, Tensor]:
    return torch.tensor([relevant]), torch.tensor([gallery])


def test_values_by_hand() -> None:
    relevance = torch.tensor([[0, 1, 1, 0, 1, 0], [1, 0, 0, 0, 0, 0]], dtype=torch.bool)
    assert measures.precision_at_k(relevance, 2).tolist() == [0.5, 0.5]
    assert measures.precision_at_k(relevance, 10).tolist() == pytest.approx([0.3, 0.1])
    assert measures.recall_at_k(relevance, 3).tolist() == pytest.approx([2 / 3, 1.0])
    # Ranks 2 and 3 of the first query are hits within R = 3: (1/2 + 2/3) / 3.
    assert measures.map_at_r(relevance).tolist() == pytest.approx([7 / 18, 1.0])
    assert measures.mrr(relevance).tolist() == [0.5, 1.0]


@pytest.mark.parametrize("k", [1, 2, 5, 11, 40])
def test_measures_agree_with_torchmetrics(k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    relevance = torch.rand(20, 11, generator=generator) < 0.3
    relevance[:, 4] = True
    scores = torch.arange(11, 0, -1).float()
    expected: dict[str, list[float]] = {"precision": [], "recall": [], "map": [], "mrr": []}
    for target in relevance:
        relevant = int(target.sum())
        expected["precision"].append(oracle.retrieval_precision(scores, target, top_k=min(k, 11)) * min(k, 11) / k)
        expected["recall"].append(oracle.retrieval_recall(scores, target, top_k=min(k, 11)))
        # torchmetrics divides by the hits within the cut, map@r by R.
        hits = oracle.retrieval_r_precision(scores, target)
        expected["map"].append(oracle.retrieval_average_precision(scores, target, top_k=relevant) * hits)
        expected["mrr"].append(oracle.retrieval_reciprocal_rank(scores, target))
    found = {
        "precision": measures.precision_at_k(relevance, k),
        "recall": measures.recall_at_k(relevance, k),
        "map": measures.map_at_r(relevance),
        "mrr": measures.mrr(relevance),
    }
    for name, values in found.items():
        assert values.dtype == torch.float64
        assert values.tolist() == pytest.approx([float(x) for x in expected[name]], abs=1e-6), name


@pytest.mark.parametrize(("relevant", "gallery"), SIZES)
@pytest.mark.parametrize("k", [1, 2, 5, 10])
def test_chance_of_precision_and_recall_is_the_mean_over_all_rankings(relevant: int, gallery: int, k: int) -> None:
    ranked = every_ranking(relevant, gallery)
    size = sizes(relevant, gallery)
    assert measures.chance_precision_at_k(*size, k).item() == pytest.approx(
        measures.precision_at_k(ranked, k).mean().item()
    )
    assert measures.chance_recall_at_k(size[1], k).item() == pytest.approx(
        measures.recall_at_k(ranked, k).mean().item()
    )


@pytest.mark.parametrize(("relevant", "gallery"), SIZES)
@pytest.mark.parametrize(
    ("measure", "chance"), [(measures.map_at_r, measures.chance_map_at_r), (measures.mrr, measures.chance_mrr)]
)
def test_chance_of_map_and_mrr_is_the_mean_over_all_rankings(
    measure: Callable[[Tensor], Tensor], chance: Callable[[Tensor, Tensor], Tensor], relevant: int, gallery: int
) -> None:
    expected = measure(every_ranking(relevant, gallery)).mean().item()
    assert chance(*sizes(relevant, gallery)).item() == pytest.approx(expected, rel=1e-12)


def test_chance_of_map_agrees_with_its_sum_over_ranks() -> None:
    relevant, gallery = 37, 900
    share, another = relevant / gallery, (relevant - 1) / (gallery - 1)
    expected = sum(share / i * (1 + (i - 1) * another) for i in range(1, relevant + 1)) / relevant
    assert measures.chance_map_at_r(*sizes(relevant, gallery)).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("relevant", "gallery"), [(1, 5000), (40, 5000), (4999, 5000)])
def test_chance_of_mrr_agrees_with_the_hypergeometric_recursion(relevant: int, gallery: int) -> None:
    none_yet, expected = 1.0, 0.0
    for rank in range(1, gallery - relevant + 2):
        hit = relevant / (gallery - rank + 1)
        expected += none_yet * hit / rank
        none_yet *= 1 - hit
    assert measures.chance_mrr(*sizes(relevant, gallery)).item() == pytest.approx(expected, rel=1e-10)


def test_chance_takes_queries_with_different_galleries() -> None:
    relevant, gallery = (torch.tensor(column) for column in zip(*SIZES, strict=True))
    for chance in (measures.chance_map_at_r, measures.chance_mrr):
        alone = [chance(*sizes(*pair)).item() for pair in SIZES]
        assert chance(relevant, gallery).tolist() == alone
