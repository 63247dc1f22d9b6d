"""The experiments that draw zoos and embeddings, on two small tetris zoos, and figures of what probes predict."""

import io
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from commands_home import Peace
from sklearn.metrics import r2_score

from experiment_modules import measure_of
from peace.cli import main
from peace.commands.embed import other_zoo
from peace.config import compose, folder
from peace.errors import InputError
from peace.reporting.record import Record, read_records, record_path
from peace.sweeps.spec import manifest
from peace.zoo.storage import Zoo

SOURCES = folder("experiments") / "hyper_representations"
RECIPE = """
name: {name}
seed: ${{seed}}
dataset: tetris
architectures: [{{name: mlp, hidden: [5], bias: false}}]
activations: [tanh, relu]
optimizers: [adam]
initialisations: {initialisations}
learning_rates: [0.01, 0.03]
seeds: 8
epochs: 3
val_share: 0.25
test_share: 0.25
"""
SWEEP = {
    "seeds": [0],
    "words": "embed.checkpoints=all embed.copies=false tracking=none",
    "axes": {
        "zoo": {"mixed": "zoo=mixed embed.others=[plain]"},
        "method": {"w": "producer=flat", "statistics": "producer=statistics", "e_c+d": "producer=pca"},
    },
    "steps": [{"command": "peace embed"}],
}
PROBE = "evaluate.task=properties properties.regression=[epoch,test_accuracy] properties.others=[plain]".split()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with two zoos, of one initialisation and of two, and embeddings of the latter by three methods."""
    home = tmp_path_factory.mktemp("figures")
    shutil.copytree(folder("configs"), home / "configs")
    for name, initialisations in (("plain", "[normal]"), ("mixed", "[normal, uniform]")):
        text = RECIPE.format(name=name, initialisations=initialisations)
        (home / "configs" / "zoo" / f"{name}.yaml").write_text(text)
    (home / "experiments" / "source").mkdir(parents=True)
    (home / "experiments" / "source" / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEACE_HOME", str(home))
        patch.chdir(home)
        patch.setitem(sys.modules, "umap", None)
        torch.set_num_threads(1)
        assert [main(["zoo", "train", name, "tracking=none"]) for name in ("plain", "mixed")] == [0, 0]
        assert [main(shlex.split(task.line)[1:]) for task in manifest("source")] == [0, 0, 0]
        yield home


def measure_of_checkout(name: str) -> ModuleType:
    """The module of this checkout, wherever the test's home lies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PEACE_HOME")
        return measure_of(f"hyper_representations/{name}")


def own_table(home: Path, name: str, **changed: object) -> None:
    """The table of one of the experiments, with other rows."""
    content = yaml.safe_load((SOURCES / name / "table.yaml").read_text())
    content.pop("paper", None)
    place = home / "experiments" / "hyper_representations" / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "table.yaml").write_text(yaml.safe_dump(content | changed))


def drawn(home: Path, name: str) -> pd.DataFrame:
    figure = home / "results" / "figures" / "hyper_representations" / f"{name}.csv"
    assert figure.with_suffix(".png").is_file() and figure.with_suffix(".pdf").is_file()
    return pd.read_csv(io.BytesIO(figure.read_bytes()))


def records_of(home: Path, name: str) -> dict[str, Record]:
    found = read_records(home / "results" / "records", f"hyper_representations/{name}")
    return {",".join(record.row.values()): record for record in found}


def test_zoos_are_measured_and_drawn(home: Path, peace: Peace) -> None:
    measure = measure_of_checkout("figure7")
    measure.main(["tracking=none"], ("plain", "mixed"))
    rows = [{"row": {"zoo": name}, "label": name.upper()} for name in ("plain", "mixed")]
    for name in ("figure7", "figure4"):
        own_table(home, name, rows=rows)
        finished = peace("table", f"hyper_representations/{name}", "tracking=none")
        assert finished.code == 0, finished.err
        assert f"peace table hyper_representations/{name}`" in finished.out
    points, four = drawn(home, "figure7"), drawn(home, "figure4")
    assert list(four) == ["panel", "x", "y", "initialisation"]
    pd.testing.assert_frame_equal(four, points[list(four)])
    zoo = Zoo.open(other_zoo(compose("evaluate", ["tracking=none"]), "mixed"))
    models = len(zoo.rows)
    assert points["panel"].value_counts()["MIXED"] == min(models, 42 * 3) and set(points["epoch"]) == {1, 2, 3}
    found = records_of(home, "figure7")["mixed"].metrics
    parts = list(zoo.by_architecture(zoo.rows))
    weights = np.concatenate([
        np.concatenate([tensor.flatten(1).numpy() for tensor in zoo.weights(part).values()], axis=1) for part in parts
    ])  # fmt: skip
    frame = pd.concat(parts, ignore_index=True)
    assert found["variance"].value == pytest.approx(weights.var(axis=0, ddof=0).mean(), rel=1e-4)
    groups = frame.groupby(["activation", "initialisation"]).indices.values()
    within = np.mean([weights[group].var(axis=0, ddof=0).mean() for group in groups])
    assert len(groups) == 4 and found["variance_within"].value == pytest.approx(within, rel=1e-4)
    pearson = np.corrcoef(weights.mean(axis=1), frame["test_accuracy"])[0, 1]
    assert found["mean_weight/pearson"].value == pytest.approx(pearson, abs=1e-4)
    last = frame.query("epoch == 3")["test_accuracy"]
    assert found["accuracy/std"].value == pytest.approx(last.std(), rel=1e-4)
    # Of the 192 models half are initialised alike; the query's run, three models, is left out.
    assert found["initialisation/chance"].value == pytest.approx(93 / 189, abs=1e-4)
    assert "initialisation/precision@5" not in records_of(home, "figure7")["plain"].metrics
    assert records_of(home, "figure7")["mixed"].notes["projection"] == "pca"


def test_embeddings_of_another_experiment_are_measured_and_drawn(home: Path, peace: Peace) -> None:
    measure = measure_of_checkout("figure8")
    measure.main(["tracking=none"], "source", "mixed")
    own_table(home, "figure8")
    finished = peace("table", "hyper_representations/figure8", "tracking=none")
    assert finished.code == 0, finished.err
    points = drawn(home, "figure8")
    assert list(dict.fromkeys(points["panel"])) == ["W", "s(W)", "E_c+D"]
    for method, record in records_of(home, "figure8").items():
        assert record.zoo and 0 <= record.metrics["initialisation/precision@5"].value <= 1, method
        assert {"test/initialisation/accuracy", "test/test_accuracy/r2"} <= record.metrics.keys()
    with pytest.raises(InputError, match="no such row is embedded in experiment 'source': got row"):
        measure.main(["tracking=none"], "source", "plain")


def test_predictions_that_evaluations_keep_are_drawn(home: Path, peace: Peace) -> None:
    lines = [shlex.split(task.line)[2:] for task in manifest("source")]
    for line in lines:
        words = [word for word in line if not word.startswith("embed.")]
        finished = peace("evaluate", *words, *PROBE, "evaluate.points=[0]")
        assert finished.code == 0, finished.err
    rows = [{"row": {"zoo": "mixed", "method": method}, "label": method.upper()} for method in ("w", "statistics")]
    of = {"test/test_accuracy": "Mixed", "ood/plain/test_accuracy": "Plain"}
    own_table(home, "figure11", rows=rows, records="source",
              figure={"kind": "predictions", "label": "test accuracy", "of": of})  # fmt: skip
    columns = [{"metric": "test/test_accuracy/r2", "label": "Acc", "format": "percent"}]
    own_table(home, "table7", rows=rows, records="source", blocks=[{"title": "R²", "columns": columns}])
    for name in ("figure11", "table7"):
        finished = peace("table", f"hyper_representations/{name}", "tracking=none", "seed=3")
        assert finished.code == 0, finished.err
    assert not (home / "results" / "figures" / "hyper_representations" / "table7.csv").exists()
    points = drawn(home, "figure11")
    assert set(points["of"]) == set(of) and list(dict.fromkeys(points["panel"])) == ["W", "STATISTICS"]
    found = read_records(home / "results" / "records", "source")
    kept = {record.row["method"].upper(): record for record in found}
    # The zoos are small: all their test models are drawn, so that the record's R² is that of the points.
    for (panel, name), own in points.groupby(["panel", "of"]):
        expected = kept[panel].metrics[f"{name}/r2"].value
        assert r2_score(own["true"], own["predicted"]) == pytest.approx(expected, abs=2e-3)
    truth = [own["true"].tolist() for _, own in points.groupby("panel") if (own["of"] == next(iter(of))).any()]
    assert truth[0] == truth[1]
    assert peace("table", "hyper_representations/figure11", "--check", "tracking=none").code == 0
    path = record_path(home / "results" / "records", "source", {"zoo": "mixed", "method": "w"}, 0)
    text = path.read_text()
    path.write_text(text.replace('"test/test_accuracy/r2": {', '"test/test_accuracy/other": {'))
    finished = peace("table", "hyper_representations/figure11", "--check", "tracking=none")
    path.write_text(text)
    assert finished.code == 2 and "no measure for a panel in the record of 'W'" in finished.err
