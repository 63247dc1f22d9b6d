import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from pandas import DataFrame, Series

from peace.embeddings.ranking import Ranking
from peace.embeddings.table import EmbeddingTable
from peace.errors import InputError
from peace.evaluation import retrieval
from peace.evaluation.retrieval import Score, retrieve, score_ranking


def rows_of(ids: list[str], runs: list[object], tasks: list[object]) -> DataFrame:
    return DataFrame({"id": ids, "run_id": runs, "task": tasks, "architecture": "mlp", "split": "test"})


def on_circle(degrees: list[float], rows: DataFrame) -> EmbeddingTable:
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return EmbeddingTable.of(torch.stack([angles.cos(), angles.sin()], dim=1), rows, {})


def random_table(count: int, runs: int, tasks: int, seed: int) -> EmbeddingTable:
    generator = np.random.default_rng(seed)
    rows = rows_of(
        [f"m{i}" for i in range(count)],
        [f"r{i % runs}" for i in range(count)],
        np.sort(np.arange(count) % tasks).tolist(),
    )
    return EmbeddingTable.of(torch.from_numpy(generator.normal(size=(count, 16))), rows, {})


def values(scores: dict[str, Score]) -> dict[str, float]:
    return {name: score.value for name, score in scores.items()}


def test_values_by_hand() -> None:
    gallery = on_circle(
        [0, 1, 2, 10, 20, 30, 40],
        rows_of(list("qsaxbyc"), ["run", "run", *"axbyc"], ["dog", "dog", "dog", "cat", "dog", "cat", "dog"]),
    )
    scores = retrieve(gallery, gallery.select([0]), cutoffs=(1, 3, 10))
    # Without itself and its sibling s, q sees a x b y c, of which a, b and c are relevant.
    assert values(scores) == pytest.approx(
        {
            "precision@1": 1.0,
            "precision@3": 2 / 3,
            "precision@10": 0.3,
            "recall@1": 1 / 3,
            "recall@3": 2 / 3,
            "recall@10": 1.0,
            "map@r": (1 + 2 / 3) / 3,
            "mrr": 1.0,
        }
    )
    rankings = [[hit in chosen for hit in range(5)] for chosen in itertools.combinations(range(5), 3)]
    first = [1 / (ranked.index(True) + 1) for ranked in rankings]
    assert scores["mrr"].chance == pytest.approx(sum(first) / len(first))
    assert scores["precision@1"].chance == pytest.approx(3 / 5)
    assert scores["precision@10"].chance == pytest.approx(3 / 10)
    assert scores["recall@3"].chance == pytest.approx(3 / 5)
    value = scores["map@r"].value
    assert scores["map@r"] == Score(value, scores["map@r"].chance, value, value, queries=1, each=Series([value]))
    assert scores["map@r"].each.to_dict() == {"q": value}


def test_the_names_are_those_of_the_default_cut_offs() -> None:
    table = random_table(12, 12, 2, 0)
    assert set(retrieve(table, table)) == {
        *("precision@1", "precision@5", "precision@10", "recall@1", "recall@5", "recall@10", "map@r", "mrr")
    }


def test_galleries_of_different_sizes_agree_with_a_plain_loop() -> None:
    table = random_table(60, 60, 4, 1)
    runs = [f"r{i}" if i % 3 else "big" for i in range(60)]
    table = replace(table, rows=table.rows.assign(run_id=runs))
    queries = table.select(range(0, 60, 5))
    expected: dict[str, list[float]] = {"precision@5": [], "map@r": [], "mrr": [], "chance": []}
    for _, query in queries.rows.iterrows():
        keep = ((table.rows["id"] != query["id"]) & (table.rows["run_id"] != query["run_id"])).to_numpy()
        vector = queries.vectors[queries.rows.index[queries.rows["id"] == query["id"]][0]].double()
        order = np.argsort(-(table.vectors.double() @ vector).numpy()[keep])
        hits = (table.rows["task"] == query["task"]).to_numpy()[keep][order]
        relevant = hits.sum()
        expected["precision@5"].append(hits[:5].mean())
        expected["map@r"].append(sum(hits[: i + 1].mean() for i in range(relevant) if hits[i]) / relevant)
        expected["mrr"].append(1 / (np.flatnonzero(hits)[0] + 1))
        expected["chance"].append(relevant / len(hits))
    scores = retrieve(table, queries)
    for name in ("precision@5", "map@r", "mrr"):
        assert scores[name].each.to_dict() == pytest.approx(dict(zip(queries.rows["id"], expected[name], strict=True)))
        assert scores[name].value == pytest.approx(np.mean(expected[name])), name
        assert scores[name].low <= scores[name].value <= scores[name].high
        assert scores[name].queries == 12
    assert scores["precision@5"].chance == pytest.approx(np.mean(expected["chance"]))


def test_blocks_of_queries_give_what_all_at_once_give(monkeypatch: pytest.MonkeyPatch) -> None:
    table = random_table(40, 20, 4, 2)
    whole = retrieve(table, table)
    monkeypatch.setattr(retrieval, "_BLOCK", 100)
    assert retrieve(table, table) == whole


def test_a_random_encoder_is_at_chance() -> None:
    table = random_table(400, 400, 5, 3)
    for name, score in retrieve(table, table).items():
        # Half the width of the interval is about two standard errors.
        assert abs(score.value - score.chance) < 2.5 * (score.high - score.low) / 2, name


def test_a_collapsed_encoder_is_at_chance_although_rows_are_sorted_by_task() -> None:
    rows = random_table(400, 400, 5, 4).rows
    table = EmbeddingTable.of(torch.full((400, 33), 0.3), rows, {})
    for name, score in retrieve(table, table).items():
        assert abs(score.value - score.chance) < 2.5 * (score.high - score.low) / 2, name


def test_a_perfect_encoder_scores_one() -> None:
    rows = random_table(40, 40, 4, 5).rows
    table = EmbeddingTable.of(torch.eye(4)[torch.tensor(rows["task"].tolist())], rows, {})
    scores = values(retrieve(table, table))
    assert [scores[name] for name in ("precision@1", "precision@5", "map@r", "mrr")] == pytest.approx([1.0] * 4)
    assert scores["recall@5"] == pytest.approx(5 / 9)


def test_a_ranking_scores_as_the_vectors_that_it_came_from() -> None:
    gallery, queries = random_table(50, 25, 4, 6), random_table(50, 25, 4, 6).select(range(9))
    order = (queries.vectors.double() @ gallery.vectors.double().T).argsort(dim=1, descending=True)
    ranking = Ranking(order, queries.rows, gallery.rows, {})
    assert score_ranking(ranking) == retrieve(gallery, queries)
    assert score_ranking(ranking, cutoffs=(2,)).keys() == {"precision@2", "recall@2", "map@r", "mrr"}


def test_the_result_is_a_function_of_the_seed() -> None:
    rows = random_table(30, 30, 3, 7).rows
    table = EmbeddingTable.of(torch.ones(30, 4), rows, {})
    assert retrieve(table, table, seed=1) == retrieve(table, table, seed=1)
    assert retrieve(table, table, seed=1) != retrieve(table, table, seed=2)


def test_relevance_may_be_another_column() -> None:
    rows = rows_of(list("abcd"), list("abcd"), ["same"] * 4).assign(family=["x", "y", "x", "y"])
    table = on_circle([0, 10, 40, 45], rows)
    assert retrieve(table, table, "family", cutoffs=(1,))["precision@1"].value == 0.0
    assert retrieve(table, table, cutoffs=(1,))["precision@1"].value == 1.0
    with pytest.raises(InputError, match="missing column 'famly' in the queries; did you mean 'family'"):
        retrieve(table, table, "famly")


def test_models_without_a_run_are_runs_of_their_own() -> None:
    table = on_circle([0, 10, 90], rows_of(list("abc"), [None, None, None], ["t", "t", "u"]))
    scores = retrieve(table, table.select([0, 1]), cutoffs=(1,))
    assert (scores["precision@1"].value, scores["precision@1"].chance) == (1.0, 0.5)
    assert scores["recall@1"].chance == 0.5


def test_a_query_does_not_find_itself_under_another_run() -> None:
    gallery = on_circle([0, 10, 90], rows_of(list("abc"), list("abc"), ["t", "u", "t"]))
    query = EmbeddingTable.of(gallery.vectors[:1], gallery.rows[:1].assign(run_id="renamed"), {})
    assert retrieve(gallery, query, cutoffs=(1,))["precision@1"].value == 0.0


def test_a_query_that_cannot_be_scored_is_named() -> None:
    table = on_circle([0, 10, 20], rows_of(list("abc"), ["r", "r", "s"], ["t", "t", "u"]))
    with pytest.raises(InputError, match=r"query 'a' has no relevant model.*task"):
        retrieve(table, table)
    with pytest.raises(InputError, match="query 'b' has an empty gallery"):
        retrieve(table.select([0]), table.select([1]))
    with pytest.raises(InputError, match="query 'c' has an empty gallery"):
        retrieve(table.select([]), table.select([2]))
    unlabelled = on_circle([0, 10], rows_of(list("xy"), list("xy"), [None, None]))
    with pytest.raises(InputError, match="query 'x' has no relevant model"):
        retrieve(unlabelled, unlabelled)


def test_bad_arguments_are_refused() -> None:
    table = random_table(12, 12, 2, 0)
    with pytest.raises(InputError, match="no queries to score"):
        retrieve(table, table.select([]))
    with pytest.raises(InputError, match="cut-off is too small: got 0"):
        retrieve(table, table, cutoffs=(0, 5))
    narrow = EmbeddingTable.of(table.vectors[:, :3], table.rows, {})
    with pytest.raises(InputError, match="different dimensions: got 16 and 3"):
        retrieve(table, narrow)
