"""From a small tetris zoo to a record of its linear probes, as a person types it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands_home import Peace
from sklearn.decomposition import PCA
from sklearn.metrics import r2_score

from peace.cli import main
from peace.config import compose, folder, run_directory, zoo_directory
from peace.embeddings.table import EmbeddingTable
from peace.models.baselines import Statistics
from peace.models.loading import load_stacks
from peace.models.saving import load_producer
from peace.zoo.storage import Zoo

ZOO = ("zoo.seeds=10 zoo.epochs=3 zoo.learning_rates=[0.01,0.03] zoo.activations=[tanh,relu] zoo.val_share=0.25 "
       "zoo.test_share=0.25").split()  # fmt: skip
OTHER = """
name: elsewhere
seed: ${seed}
dataset: tetris
architectures: [{name: mlp, hidden: [5], bias: false}]
activations: [tanh]
optimizers: [adam]
initialisations: [normal]
learning_rates: [0.01, 0.02]
seeds: 8
epochs: 3
test_share: 0.5
"""
WORDS = ["experiment=probes", "zoo=tetris_seed", *ZOO, "tracking=none"]
EMBED = ["embed.checkpoints=all", "embed.copies=false", "embed.others=[elsewhere]"]
PROBE = ["evaluate.task=properties", "properties.regression=[epoch,test_accuracy,test_f1,learning_rate,dropout]",
         "properties.classes=[activation]", "properties.others=[elsewhere]"]  # fmt: skip


PRODUCERS = ("flat", "statistics", "pca")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two zoos and the embeddings of three baselines."""
    home = tmp_path_factory.mktemp("probes")
    shutil.copytree(folder("configs"), home / "configs")
    (home / "configs" / "zoo" / "elsewhere.yaml").write_text(OTHER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEACE_HOME", str(home))
        patch.chdir(home)
        torch.set_num_threads(1)
        assert main(["zoo", "train", "tetris_seed", *ZOO, "tracking=none"]) == 0
        assert main(["zoo", "train", "elsewhere", "tracking=none"]) == 0
        for producer in PRODUCERS:
            assert main(["embed", *WORDS, f"producer={producer}", *EMBED]) == 0
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = Path(shutil.copytree(trained, tmp_path / "home"))
    monkeypatch.setenv("PEACE_HOME", str(copy))
    monkeypatch.chdir(copy)
    return copy


def config(*words: str) -> dict[str, Any]:
    return compose("evaluate", [*WORDS, *words])


def record(home: Path, method: str) -> dict[str, Any]:
    return json.loads((home / "results" / "records" / "probes" / method / "seed0.json").read_text())


@pytest.mark.parametrize("producer", PRODUCERS)
def test_probes_leave_a_record(home: Path, peace: Peace, producer: str) -> None:
    finished = peace("evaluate", *WORDS, f"producer={producer}", *PROBE)
    assert finished.code == 0, finished.err
    assert "left out: dropout, the same for all train models\n" in finished.out
    found = record(home, producer)
    numbers = ["epoch", "test_accuracy", "learning_rate", *(f"test_f1/{place}" for place in range(4))]
    wanted = {f"{part}/{name}/{measure}" for name in numbers for measure in ("r2", "kendall_tau")
              for part in ("val", "test", "ood/elsewhere")}  # fmt: skip
    # F1 of a class may be the same for all models of a split, the other targets vary.
    told = {name for name in wanted if "test_f1" not in name} | {"val/activation/accuracy", "test/activation/accuracy"}
    told |= {"reconstruction/r2", "val/reconstruction/r2", "train/reconstruction/r2"} if producer == "pca" else set()
    spread = {"zoo/variance", "zoo/variance_within"} if producer == "flat" else set()
    assert told | spread <= found["metrics"].keys() <= wanted | told | spread
    for name, metric in ((name, metric) for name, metric in found["metrics"].items() if name not in spread):
        assert "chance" in metric and ("low" in metric) == (not name.startswith(("train/", "val/"))), name
    assert found["metrics"]["test/epoch/r2"]["chance"] == pytest.approx(0, abs=1e-6)
    zoo, elsewhere = (Zoo.open(place) for place in (zoo_directory(config()), other_folder()))
    train, test = zoo.rows["split"].eq("train"), elsewhere.rows["split"].eq("test")
    assert found["counts"]["models, train"] == train.sum() > 50
    assert found["counts"]["runs, elsewhere"] == elsewhere.rows["run_id"][test].nunique() > 3
    assert found["notes"]["left_out"]["dropout"] and found["notes"]["penalties"]["epoch"] > 0
    assert found["zoo"] == zoo.hash and "queries" not in found


def test_raw_vectors_are_the_weights(home: Path) -> None:
    zoo = Zoo.open(zoo_directory(config()))
    table = EmbeddingTable.load(run_directory(config("producer=flat")) / "embeddings.safetensors")
    stacks, rows = load_stacks(zoo, zoo.rows)
    assert table.rows["id"].tolist() == rows["id"].tolist()
    weights = torch.cat([torch.cat([layer.flatten(1) for layer in stack.weights], dim=1) for stack in stacks])
    torch.testing.assert_close(table.raw, weights, rtol=1e-5, atol=1e-7)


def test_a_baseline_that_keeps_half_of_the_dimensions_reconstructs_well(home: Path, peace: Peace) -> None:
    assert peace("evaluate", *WORDS, "producer=pca", *PROBE).code == 0
    zoo = Zoo.open(zoo_directory(config()))
    pca, weights = (EmbeddingTable.load(run_directory(config(f"producer={name}")) / "embeddings.safetensors")
                    for name in ("pca", "flat"))  # fmt: skip
    train, test = (weights.raw[weights.rows["split"].eq(split).to_numpy(copy=True)] for split in ("train", "test"))
    oracle = PCA(50, svd_solver="full").fit(train)
    expected = r2_score(test, oracle.inverse_transform(oracle.transform(test)), multioutput="variance_weighted")
    metric = record(home, "pca")["metrics"]["reconstruction/r2"]
    assert metric["value"] == pytest.approx(expected, abs=1e-4) and 0.5 < metric["low"] <= metric["high"] < 1
    assert pca.rows["squared_error"].notna().all() and len(pca) == len(zoo.rows)


def test_baselines_are_fitted_on_training_models_alone(home: Path) -> None:
    where = run_directory(config("producer=statistics"))
    baseline, identity = load_producer(where / "embedder")
    zoo = Zoo.open(zoo_directory(config()))
    stacks, rows = load_stacks(zoo, zoo.rows[zoo.rows["split"].eq("train")])
    features = torch.cat([Statistics().features(stack) for stack in stacks])
    torch.testing.assert_close(baseline.mean, features.mean(0))
    torch.testing.assert_close(baseline.spread[features.std(0) > 0], features.std(0, correction=0)[features.std(0) > 0])
    other = EmbeddingTable.load(where / "embeddings-elsewhere.safetensors")
    assert other.provenance["embedder"] == identity and set(other.rows["split"]) == {"test"}
    stacks, rows = load_stacks(elsewhere := Zoo.open(other_folder()), elsewhere.rows.query("split == 'test'"))
    assert other.rows["id"].tolist() == rows["id"].tolist() and other.provenance["zoo"] == elsewhere.hash
    torch.testing.assert_close(other.raw, baseline.embed(stacks), rtol=1e-5, atol=1e-6)


def other_folder() -> Path:
    return zoo_directory(compose("zoo", ["zoo=elsewhere"]))


def test_tables_of_other_zoos_that_are_no_longer_asked_for_go(home: Path, peace: Peace) -> None:
    where = run_directory(config("producer=flat"))
    assert sorted(path.name for path in where.glob("*.safetensors")) == [
        "embeddings-elsewhere.safetensors", "embeddings.safetensors"
    ]  # fmt: skip
    assert peace("embed", *WORDS, "producer=flat", "embed.checkpoints=all").code == 0
    assert sorted(path.name for path in where.glob("*.safetensors")) == [
        "copies.safetensors", "embeddings.safetensors"
    ]  # fmt: skip


def test_zoos_in_parts_have_others_where_they_are_joined(home: Path, peace: Peace) -> None:
    where = run_directory(config("producer=flat"))
    tables = [where / name for name in ("embeddings.safetensors", "embeddings-elsewhere.safetensors")]
    before = [EmbeddingTable.load(path).hash for path in tables]
    for path in tables:
        path.unlink()
    words = ["embed", *WORDS, "producer=flat", *EMBED, "embed.batch_size=32"]
    assert [peace(*words, f"embed.shard={part}/2").code for part in (1, 2)] == [0, 0]
    assert not any(path.exists() for path in tables)
    assert peace(*words, "embed.merge=2").code == 0
    assert [EmbeddingTable.load(path).hash for path in tables] == before


def without_elsewhere() -> list[str]:
    (run_directory(config("producer=flat")) / "embeddings-elsewhere.safetensors").unlink()
    return ["evaluate", *WORDS, "producer=flat", *PROBE]


def of_another_embedder() -> list[str]:
    flat, other = (run_directory(config(f"producer={name}")) for name in ("flat", "statistics"))
    shutil.copy(other / "embeddings-elsewhere.safetensors", flat)
    return ["evaluate", *WORDS, "producer=flat", *PROBE]


def untrained() -> list[str]:
    shutil.rmtree(other_folder())
    return ["embed", *WORDS, "producer=flat", *EMBED]


@pytest.mark.parametrize(
    ("prepared", "message"),
    [
        (without_elsewhere, "there is no embedding table in .*embeddings-elsewhere.safetensors"),
        (of_another_embedder, "embeddings of another embedder in the embedding table of zoo 'elsewhere'"),
        (untrained, "no zoo in .*elsewhere"),
        (lambda: ["embed", *WORDS, "producer=flat", "embed.others=[elswhere]"], "did you mean 'elsewhere'"),
        (lambda: ["embed", *WORDS, "producer=metadata", "embed.others=[elsewhere]"], "a ranking is of one zoo"),
        (lambda: ["evaluate", *WORDS, "producer=flat", "evaluate.task=poperties"], "evaluate, key 'task'"),
        (lambda: ["evaluate", *WORDS, "producer=metadata", "evaluate.task=properties"], "no vectors to probe"),
        (lambda: ["evaluate", *WORDS, "producer=flat", "evaluate.task=properties", "properties.regression=[epoc]"],
         "missing column 'epoc' in the embedding table; did you mean 'epoch'"),
        (lambda: ["evaluate", *WORDS, "producer=flat", "evaluate.task=properties", "properties.regression=[task]"],
         "target 'task' is no number"),
        (lambda: ["evaluate", *WORDS, "producer=flat", "properties.clases=[task]"], "unknown key 'properties.clases'"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(home: Path, peace: Peace, prepared: Callable[[], list[str]], message: str) -> None:
    finished = peace(*prepared())
    assert finished.code == 2 and finished.err.count("\n") == 1
    assert re.search(message, finished.err), finished.err
    assert not (home / "results").exists()
