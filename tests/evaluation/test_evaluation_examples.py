"""Examples follow the rules of the scores beside which they stand."""

import pandas as pd
import pytest
import torch

from peace.embeddings.ranking import Ranking
from peace.embeddings.table import EmbeddingTable
from peace.evaluation.examples import examples
from peace.evaluation.protocols import protocols
from peace.evaluation.retrieval import retrieve, score_ranking

NEIGHBOURS = 5


@pytest.fixture
def table() -> EmbeddingTable:
    """Forty models of four tasks, one of them without training models; each second one shares its run with the next."""
    rows = pd.DataFrame({
        "id": [f"m{place:02d}" for place in range(40)], "run_id": [f"r{place // 2}" for place in range(40)],
        "task": [f"t{place // 2 % 4}" for place in range(40)], "architecture": "mlp", "family": "mlp",
        "split": ["train" if place % 5 and place // 2 % 4 else "test" for place in range(40)],
    })  # fmt: skip
    vectors = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)).round(decimals=0)
    return EmbeddingTable.of(vectors + torch.tensor([1.0, 0, 0, 0, 0, 0]) / 2, rows, {})


def test_examples_of_all_queries_have_the_precision_that_is_reported(table: EmbeddingTable) -> None:
    found = examples(table, seed=3, queries=40, neighbours=NEIGHBOURS)
    for protocol, mask in protocols(table.rows).items():
        own = found[found["protocol"] == protocol]
        assert own["query"].unique().tolist() == table.rows["id"][mask].tolist()
        score = retrieve(table, table.select(mask), cutoffs=[NEIGHBOURS], seed=3)[f"precision@{NEIGHBOURS}"]
        assert own["relevant"].mean() == pytest.approx(score.value)
        assert (own["rank"].to_numpy().reshape(-1, NEIGHBOURS) == range(1, NEIGHBOURS + 1)).all()


def test_a_row_says_which_model_was_found_and_how_near_it_is(table: EmbeddingTable) -> None:
    found = examples(table, queries=2)
    assert found.groupby("protocol")["query"].nunique().to_dict() == {"seen": 2, "unseen": 2}
    place = {name: number for number, name in enumerate(table.rows["id"])}
    for row in found.to_dict("records"):
        query, other = place[row["query"]], place[row["neighbour"]]
        assert row["similarity"] == pytest.approx(float(table.vectors[query] @ table.vectors[other]), abs=1e-6)
        assert row["query_label"] == table.rows["task"][query] and row["label"] == table.rows["task"][other]
        assert row["relevant"] == (row["label"] == row["query_label"])
        assert query // 2 != other // 2, "of another run"
    for _, rows in found.groupby(["protocol", "query"]):
        assert rows["similarity"].is_monotonic_decreasing


def test_a_ranking_is_shown_in_its_own_order(table: EmbeddingTable) -> None:
    order = torch.stack([torch.randperm(40, generator=torch.Generator().manual_seed(place)) for place in range(40)])
    ranking = Ranking(order, table.rows, table.rows, {})
    found = examples(ranking, queries=40, neighbours=NEIGHBOURS)
    assert found["similarity"].isna().all()
    for protocol, mask in protocols(table.rows).items():
        part = Ranking(order[torch.tensor(mask)], table.rows[mask], table.rows, {})
        score = score_ranking(part, cutoffs=[NEIGHBOURS])[f"precision@{NEIGHBOURS}"]
        assert found.loc[found["protocol"] == protocol, "relevant"].mean() == pytest.approx(score.value)
