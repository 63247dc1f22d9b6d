import pandas as pd
import pytest
import torch

from peace.errors import InputError
from peace.index.metadata import rank_by_metadata

ANIMALS = ["cat", "dog", "bird", "frog"]


def models(count: int, architecture: str = "mlp-32-10-relu") -> pd.DataFrame:
    """Models in turn of each of four tasks, a task being a data set and an animal."""
    rows = [{"id": f"m{i}", "run_id": f"r{i}", "task": ANIMALS[i % 4], "architecture": architecture, "split": "test",
             "tags": ["cifar10", ANIMALS[i % 4]]} for i in range(count)]  # fmt: skip
    return pd.DataFrame(rows)


def precision(rows: pd.DataFrame, missing: float, seed: int = 0, at: int = 10) -> float:
    """Share of the first results that are of the query's task, the query itself left out."""
    order = rank_by_metadata(rows, rows, missing, seed, "zoo").order
    others = order[order != torch.arange(len(rows))[:, None]].view(len(rows), -1)[:, :at]
    tasks = torch.tensor([ANIMALS.index(task) for task in rows["task"]])
    return (tasks[others] == tasks[:, None]).double().mean().item()


def test_with_every_tag_the_label_itself_is_found() -> None:
    rows = models(80)
    order = rank_by_metadata(rows, rows, 0.0, 0, "zoo").order
    tasks = torch.tensor([ANIMALS.index(task) for task in rows["task"]])
    assert (tasks[order[:, :20]] == tasks[:, None]).all()
    assert precision(rows, 0.0) == 1.0


def test_without_tags_there_is_chance_alone() -> None:
    # 4,000 results, though not independent ones: chance is 99 of 399 others.
    assert precision(models(400), 1.0) == pytest.approx(99 / 399, abs=0.03)


def test_missing_tags_cost_precision() -> None:
    found = [precision(models(200), share) for share in (0.0, 0.3, 0.6, 0.9)]
    assert found == sorted(found, reverse=True) and found[0] == 1.0
    assert found[1] > 0.6 > found[3]


def silent(rows: pd.DataFrame, missing: float) -> set[str]:
    """Ids of pages without tags: all models are cats, and the queries name a cat whether their own tags are or not."""
    rows = rows.assign(tags=[["cat"]] * len(rows))
    queries = models(30, "cat").assign(tags=[[]] * 30)
    order = rank_by_metadata(rows, queries, missing, 0, "zoo").order
    # Pages with tags come before those without, either in random order: their mean places are far apart.
    mean = order.argsort(1).double().mean(0) / len(rows)
    found = mean > (1.5 - missing) / 2
    places = order[:, -int(found.sum()) :].sort(1).values
    assert (places == places[0]).all() and found[places[0]].all()
    return set(rows["id"][found.numpy()])


def test_the_share_of_silent_pages_is_the_one_asked_for() -> None:
    rows = models(1000)
    few, many = silent(rows, 0.3), silent(rows, 0.6)
    # The standard deviation of a share is 0.015.
    assert len(few) / 1000 == pytest.approx(0.3, abs=0.05) and len(many) / 1000 == pytest.approx(0.6, abs=0.05)
    assert few < many
    assert silent(rows.sample(frac=1, random_state=0), 0.3) == few
    assert silent(rows[:500], 0.3) == few & set(rows["id"][:500])


def test_a_query_is_as_silent_as_its_own_page() -> None:
    rows = models(400)
    quiet = silent(rows, 0.5)
    ranking = rank_by_metadata(rows, rows, 0.5, 0, "zoo")
    for query, order in zip(rows.to_dict("records"), ranking.order[:, :10].tolist(), strict=True):
        found = rows.iloc[order]
        if query["id"] in quiet:
            # It shares the architecture with all pages, which counts most on those that say nothing else.
            assert set(found["id"]) <= quiet
        else:
            assert set(found["task"]) == {query["task"]} and not quiet & set(found["id"])


def test_pages_without_tags_still_name_their_architecture() -> None:
    rows = pd.concat([models(20, "mlp-32-relu"), models(20, "cnn-8-tanh")], ignore_index=True)
    rows["id"] = rows["run_id"] = [f"m{i}" for i in range(40)]
    order = rank_by_metadata(rows, rows, 1.0, 0, "zoo").order
    assert (order[:20, :20] < 20).all() and (order[20:, :20] >= 20).all()


def test_ties_do_not_come_in_the_order_of_rows() -> None:
    order = rank_by_metadata(models(30), models(30), 1.0, 0, "zoo").order
    assert len(order.unique(dim=0)) == 30
    assert order.double().mean(0).std() < 3


def test_the_ranking_is_a_function_of_the_seed() -> None:
    rows = models(40)
    first, again, other = (rank_by_metadata(rows, rows, 0.5, seed, "zoo").order for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_rows_and_provenance_come_along() -> None:
    gallery, queries = models(12), models(5)
    ranking = rank_by_metadata(gallery, queries, 0.25, 0, "a1b2")
    assert ranking.order.shape == (5, 12)
    assert ranking.gallery["id"].tolist() == gallery["id"].tolist() and len(ranking.queries) == 5
    assert ranking.provenance == {"producer": "metadata", "missing": 0.25, "zoo": "a1b2"}


@pytest.mark.parametrize("missing", [-0.1, 1.01, float("nan")])
def test_a_share_beyond_zero_to_one_is_refused(missing: float) -> None:
    with pytest.raises(InputError, match=r"not a share of missing tags: got .*, expected a number from 0 to 1"):
        rank_by_metadata(models(4), models(4), missing, 0, "zoo")
