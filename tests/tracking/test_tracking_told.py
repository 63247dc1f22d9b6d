"""What a run of each command contains, read from the binary log that wandb wrote offline."""

import json
from pathlib import Path

import pandas as pd
import pytest
from tracked_log import Log, logs
from tracking_home import EXPERIMENT, WORDS, ZOO

from peace.config import compose, fingerprint
from peace.embeddings.table import EmbeddingTable
from peace.evaluation.examples import examples
from peace.evaluation.protocols import protocols
from peace.provenance import git_commit
from peace.reporting.record import read_records
from peace.tracking.run import Tracking
from peace.zoo.storage import Zoo

COMPOSED = {
    "zoo train": ("zoo", ["zoo=demo", *ZOO]),
    "pretrain": ("pretrain", WORDS),
    "embed": ("embed", WORDS),
    "index": ("index", WORDS),
    "evaluate": ("evaluate", [*WORDS, "evaluate.points=[0]"]),
    "table": ("evaluate", [f"experiment={EXPERIMENT}"]),
}
COMMANDS = tuple(COMPOSED)


@pytest.fixture(scope="session")
def zoo(tracked_home: Path) -> Zoo:
    (manifest,) = tracked_home.glob("zoos/demo/*/manifest.parquet")
    return Zoo.open(manifest.parent)


def where(log: Log) -> Path:
    """The folder whose `wandb` folder holds the log."""
    return log.path.parents[2]


def test_each_command_made_one_run_that_ended_well(told: dict[str, Log], tracked_home: Path) -> None:
    assert sorted(told) == sorted([*COMMANDS, "embed metadata", "evaluate metadata"])
    assert len(logs(tracked_home)) == len(told) == len({log.run.run_id for log in told.values()})
    assert {log.exit_code for log in told.values()} == {0}


def test_nothing_is_written_outside_the_folder_of_runs(tracked_home: Path) -> None:
    outside = [path for path in tracked_home.parent.rglob("*") if path.is_file() and "wandb" in path.parts]
    assert [path for path in outside if not path.is_relative_to(tracked_home / "runs")] == []


def test_a_zoo_s_run_lies_neither_in_nor_beside_the_zoo(told: dict[str, Log], zoo: Zoo) -> None:
    log = told["zoo train"]
    assert where(log) == zoo.folder.parents[2] / "runs" / "zoos" / zoo.folder.parent.name / zoo.folder.name
    assert list(zoo.folder.parent.iterdir()) == [zoo.folder]
    assert zoo.folder.parents[2] / log.config["run_directory"] == zoo.folder


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_stands_where_people_look_for_it(command: str, told: dict[str, Log]) -> None:
    run = told[command].run
    tags = ["demo"] if command == "zoo train" else ["demo", "network_gnn"]
    assert (run.project, run.job_type, list(run.tags)) == ("peace", command, tags)
    assert run.run_group == ("demo" if command == "zoo train" else EXPERIMENT)
    assert run.display_name == f"{command} {tags[-1]} seed0"
    assert list(told["embed metadata"].run.tags) == ["demo", "metadata"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_says_what_it_came_from(command: str, told: dict[str, Log], zoo: Zoo, tracked_home: Path) -> None:
    config, name, words = told[command].config, *COMPOSED[command]
    expected = compose(name, words, tracked_home / "configs")
    assert {key: config[key] for key in expected} == expected
    assert config["command"] == command and config["git_commit"].removesuffix("+dirty") == git_commit()[:40]
    assert config["versions"]["torch"] and config["versions"]["wandb"]
    assert config["zoo_hash"] == ([zoo.hash] if command == "table" else zoo.hash)


def test_an_id_is_a_function_of_folder_and_command(told: dict[str, Log]) -> None:
    for command, log in told.items():
        name = command.removesuffix(" metadata")
        assert log.run.run_id == fingerprint([log.config["run_directory"], name])
    config = told["embed"].config
    tracking = [Tracking(config, "embed", Path("runs/a"), part=part).id for part in ("", "1/4", "2/4")]
    assert len(set(tracking)) == 3 and tracking[0] == fingerprint(["runs/a", "embed"])


def test_a_zoo_s_run_has_the_means_of_each_checkpoint(told: dict[str, Log], zoo: Zoo) -> None:
    log = told["zoo train"]
    assert [row["epoch"] for row in log.history] == [1, 2]
    for row in log.history:
        models = zoo.rows[(zoo.rows["epoch"] == row["epoch"]) & (zoo.rows["status"] == "ok")]
        assert row["models"] == len(models) == 32
        for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "generalisation_gap"):
            assert row[f"mean/{name}"] == pytest.approx(models[name].mean()), name
    assert (log.summary["models"], log.summary["checkpoints"], log.summary["diverged"]) == (32, 64, 0)


def test_a_training_s_run_has_losses_gauges_and_the_learning_rate(told: dict[str, Log]) -> None:
    log = told["pretrain"]
    (file,) = where(log).glob("logs/*/metrics.csv")
    written = pd.read_csv(file).groupby("step").last()
    assert [row["_step"] for row in log.history] == written.index.tolist() == [0, 1, 2, 3]
    for name in ("train/loss", "train/contrastive", "train/learning_rate", "val/knn", "val/effective_rank"):
        found = {row["_step"]: row[name] for row in log.history if name in row}
        assert found == pytest.approx(written[name].dropna().to_dict()), name
    rates = [row["train/learning_rate"] for row in log.history]
    assert rates[0] == pytest.approx(1e-4) and rates == sorted(rates, reverse=True) and rates[-1] < 5e-5


def test_the_last_model_and_all_its_ancestors_are_one_chain(told: dict[str, Log]) -> None:
    made = {
        (kind, record.name, record.digest): command
        for command, log in told.items()
        for kind, record in log.made.items()
    }
    chain = {
        command: {kind: made[kind, record.name, record.digest] for kind, record in log.used.items()}
        for command, log in told.items()
    }
    assert chain == {
        "zoo train": {},
        "pretrain": {"zoo": "zoo train"},
        "embed": {"zoo": "zoo train", "model": "pretrain"},
        "index": {"embeddings": "embed"},
        "evaluate": {"embeddings": "embed"},
        "embed metadata": {"zoo": "zoo train"},
        "evaluate metadata": {"embeddings": "embed metadata"},
        "table": {},
    }
    assert {kind for kind, _, _ in made} == {"zoo", "model", "embeddings", "index", "table"}


def contents(log: Log, kind: str) -> dict[str, str]:
    """Each path of an artifact that was made: `uploaded`, or what it refers to."""
    return {entry.path: entry.ref or "uploaded" for entry in log.made[kind].manifest.contents}


def test_weights_are_told_by_reference_and_what_says_their_hashes_is_uploaded(told: dict[str, Log], zoo: Zoo) -> None:
    found = contents(told["zoo train"], "zoo")
    shards = sorted(path.name for path in (zoo.folder / "weights").iterdir())
    assert found.pop("manifest.parquet") == "uploaded"
    assert found == {f"weights/{name}": (zoo.folder.resolve() / "weights" / name).as_uri() for name in shards}
    assert json.loads(told["zoo train"].made["zoo"].metadata)["hash"] == zoo.hash

    trained = contents(told["pretrain"], "model")
    tensors = where(told["pretrain"]).resolve() / "embedder" / "embedder.safetensors"
    assert trained == {"embedder.json": "uploaded", "embedder.safetensors": tensors.as_uri()}
    about = json.loads((tensors.parent / "embedder.json").read_text())
    assert json.loads(told["pretrain"].made["model"].metadata)["hash"] == about["hash"]

    assert contents(told["embed"], "embeddings") == {
        "embeddings.safetensors": "uploaded",
        "copies.safetensors": "uploaded",
    }
    assert contents(told["embed metadata"], "embeddings") == {"ranking.safetensors": "uploaded"}
    assert contents(told["index"], "index")["index.json"] == "uploaded"
    assert contents(told["table"], "table") == {f"{EXPERIMENT}.{end}": "uploaded" for end in ("md", "tex", "csv")}


@pytest.mark.parametrize("command", ["evaluate", "evaluate metadata"])
def test_an_evaluation_s_run_has_every_metric_of_the_record(
    command: str, told: dict[str, Log], tracked_home: Path
) -> None:
    log, row = told[command], {"evaluate": "trained", "evaluate metadata": "metadata"}[command]
    found = {record.row["method"]: record for record in read_records(tracked_home / "results" / "records", EXPERIMENT)}
    metrics = found[row].metrics
    assert len(metrics) > 10
    table = {line["metric"]: line for line in log.table("retrieval")}
    assert table.keys() == metrics.keys()
    for name, metric in metrics.items():
        assert log.summary[name] == pytest.approx(metric.value, rel=1e-5)
        assert table[name]["value"] == pytest.approx(metric.value, rel=1e-5)
        for bound in ("chance", "low", "high"):
            expected = getattr(metric, bound)
            assert table[name][bound] == (None if expected is None else pytest.approx(expected, rel=1e-5))
            assert log.summary.get(f"{name}/{bound}") == table[name][bound]
    assert log.config["counts"] == found[row].counts


def test_an_evaluation_s_run_has_queries_with_their_neighbours(told: dict[str, Log]) -> None:
    log = told["evaluate"]
    stored = EmbeddingTable.load(where(log) / "embeddings.safetensors")
    rows = log.table("examples")
    assert pd.DataFrame(rows).equals(examples(stored, seed=0))
    asked = {protocol: min(4, mask.sum()) for protocol, mask in protocols(stored.rows).items()}
    assert asked.keys() == {"seen", "unseen", "val"} and len(rows) == 5 * sum(asked.values())
    assert {row["protocol"] for row in rows} == asked.keys()
    ranked = told["evaluate metadata"].table("examples")
    assert len(ranked) == len(rows) and {row["similarity"] for row in ranked} == {None}


def test_an_evaluation_s_run_has_the_scatter_where_it_was_computed(told: dict[str, Log], tracked_home: Path) -> None:
    log = told["evaluate"]
    points = pd.read_csv(next((tracked_home / "runs").rglob("points/seed0/trained.csv")))
    logged = pd.DataFrame(log.table("embedding"))
    assert logged[["id", "task"]].equals(points[["id", "task"]])
    assert logged[["x", "y"]].to_numpy() == pytest.approx(points[["x", "y"]].to_numpy())
    picture = log.path.parent / "files" / log.summary["scatter"]["path"]
    assert picture.read_bytes() == (where(log) / "scatter.png").read_bytes()
    assert "embedding" not in told["evaluate metadata"].summary


def test_a_table_s_run_has_the_table(told: dict[str, Log], tracked_home: Path) -> None:
    log = told["table"]
    shown = (log.path.parent / "files" / log.summary["table"]["path"]).read_text()
    markdown = (tracked_home / "results" / "tables" / f"{EXPERIMENT}.md").read_text()
    assert "| PEACE |" in shown and markdown.partition("-->")[2].strip() in shown
