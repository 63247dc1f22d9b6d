"""From a recipe to a table, as a person types it."""

import json
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from commands_home import EXPERIMENT, METHODS, SWEEP, Home, Peace, snapshot, verb
from safetensors.torch import load_file, save_file

from peace.embeddings.ranking import Ranking
from peace.embeddings.table import EmbeddingTable
from peace.reporting.record import Record, read_records
from peace.sweeps.spec import manifest
from peace.zoo.storage import Zoo

STORED = ("embeddings", "copies", "ranking")


@pytest.fixture
def model(home: Home) -> pd.Series:
    """The last checkpoint of an MLP of the index."""
    rows = Zoo.open(home.zoo).rows
    return rows[(rows["family"] == "mlp") & (rows["activation"] == "relu") & (rows["epoch"] == 2)].iloc[0]


@pytest.fixture
def file(home: Home, model: pd.Series, peace: Peace, tmp_path: Path) -> Path:
    """That model as `peace zoo export` writes it."""
    path = tmp_path / "query.safetensors"
    finished = peace("zoo", "export", model["id"], "--zoo", home.zoo, "--out", path)
    assert finished.code == 0
    assert finished.out == f"{model['id']} ({model['task']}): {path}\n"
    return path


def neighbours(peace: Peace, home: Home, file: Path, *more: str) -> tuple[dict[str, object], list[dict[str, object]]]:
    finished = peace("search", file, "--index", home.run() / "index", "--json", *more)
    assert finished.code == 0, finished.err
    found = json.loads(finished.out)
    return found, found["neighbours"]


def records(home: Home) -> dict[str, Record]:
    found = read_records(home.folder / "results" / "records", EXPERIMENT)
    return {record.row["method"]: record for record in found}


def test_the_zoo_is_shown_and_is_what_was_asked_for(home: Home, peace: Peace) -> None:
    shown, verified = peace("zoo", "show", home.zoo), peace("zoo", "verify", home.zoo)
    # Four tasks, two architectures, two activations, two seeds; two checkpoints of each.
    assert shown.code == 0 and "32 runs, 64 checkpoints at epochs [1, 2]" in shown.out
    assert verified == (0, "64 models match their sha256; no run is in two splits\n", "")


def test_a_flipped_bit_of_the_zoo_is_found(copied: Home, peace: Peace) -> None:
    path = sorted((copied.zoo / "weights").glob("*.safetensors"))[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    finished = peace("zoo", "verify", copied.zoo)
    assert finished.code == 1
    assert path.name in finished.out and "does not match its sha256" in finished.out
    assert finished.err == f"peace: the zoo in {copied.zoo} has 1 faults\n"


def test_a_model_finds_itself(home: Home, peace: Peace, file: Path, model: pd.Series) -> None:
    found, nearest = neighbours(peace, home, file, "--top", "4")
    assert found["read_as"] == model["architecture"] and found["readings"] == [model["architecture"]]
    assert len(nearest) == 4
    assert nearest[0]["id"] == model["id"] and nearest[0]["task"] == model["task"]
    assert nearest[0]["similarity"] == pytest.approx(1, abs=1e-5)
    similarities = [row["similarity"] for row in nearest]
    assert similarities == sorted(similarities, reverse=True)


def test_a_search_prints_what_its_json_says(home: Home, peace: Peace, file: Path) -> None:
    _, nearest = neighbours(peace, home, file, "--top", "3")
    printed = peace("search", file, "--index", home.run() / "index", "--top", "3")
    lines = printed.out.splitlines()
    assert printed.code == 0 and len(lines) == 4
    assert [line.split()[1] for line in lines[1:]] == [row["id"] for row in nearest]


def test_tensors_alone_are_enough(home: Home, peace: Peace, file: Path, model: pd.Series, tmp_path: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(file), bare)
    found, nearest = neighbours(peace, home, bare)
    # Weights say nothing of the activation: what is nearest to the index decides, or the person.
    assert sorted(found["readings"]) == ["mlp-32-3-relu", "mlp-32-3-tanh"]
    assert found["read_as"] == model["architecture"] and nearest[0]["id"] == model["id"]
    chosen, others = neighbours(peace, home, bare, "--architecture", "mlp-32-3-tanh")
    assert chosen["readings"] == ["mlp-32-3-tanh"] and others != nearest
    printed = peace("search", bare, "--index", home.run() / "index")
    assert printed.out.startswith("the tensors fit mlp-32-3-") and "read as mlp-32-3-relu" in printed.out


def test_a_folder_of_the_hub_is_a_query_too(
    home: Home, peace: Peace, file: Path, model: pd.Series, tmp_path: Path
) -> None:
    whole, shards, tensors = tmp_path / "whole", tmp_path / "shards", load_file(file)
    whole.mkdir()
    shards.mkdir()
    shutil.copy(file, whole / "model.safetensors")
    names = {name: f"pytorch_model-0000{1 + place % 2}-of-00002.bin" for place, name in enumerate(tensors)}
    for shard in set(names.values()):
        torch.save({name: tensors[name] for name in tensors if names[name] == shard}, shards / shard)
    (shards / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": names}))
    for query in (whole, shards, shards / "pytorch_model.bin.index.json"):
        found, nearest = neighbours(peace, home, query, "--architecture", model["architecture"])
        assert found["read_as"] == model["architecture"] and nearest[0]["id"] == model["id"]


def test_renumbered_and_rescaled_neurons_change_nothing(home: Home, peace: Peace, file: Path, tmp_path: Path) -> None:
    tensors = load_file(file)
    (first, bias), (last, end) = [(f"{place}.weight", f"{place}.bias") for place in (1, 3)]
    generator = torch.Generator().manual_seed(3)
    order = torch.randperm(32, generator=generator)
    scale = torch.exp(torch.randn(32, generator=generator))
    moved = {
        first: (scale[:, None] * tensors[first])[order].contiguous(),
        bias: (scale * tensors[bias])[order].contiguous(),
        last: (tensors[last] / scale)[:, order].contiguous(),
        end: tensors[end],
    }
    copy = tmp_path / "copy.safetensors"
    save_file(moved, copy, metadata={"architecture": "mlp-32-3-relu", **_about(file)})
    _, before = neighbours(peace, home, file, "--top", "32")
    _, after = neighbours(peace, home, copy, "--top", "32")
    assert after[0]["id"] == before[0]["id"]
    similarity = {row["id"]: row["similarity"] for row in after}
    assert similarity == pytest.approx({row["id"]: row["similarity"] for row in before}, abs=1e-4)


def _about(file: Path) -> dict[str, str]:
    length = int.from_bytes(file.read_bytes()[:8], "little")
    return json.loads(file.read_bytes()[8 : 8 + length])["__metadata__"]


def test_every_method_leaves_a_record_that_its_embeddings_explain(home: Home) -> None:
    found = records(home)
    assert sorted(found) == sorted(METHODS)
    assert {record.zoo for record in found.values()} == {Zoo.open(home.zoo).hash}
    for method, record in found.items():
        assert record.counts["models"] == 32
        for protocol in ("seen", "unseen"):
            score = record.metrics[f"{protocol}/precision@5"]
            assert 0 <= score.low <= score.value <= score.high <= 1, method
            assert 0 < score.chance < 0.5
    assert found["peace"].metrics["symmetry/max_abs_difference"].value < 1e-3
    assert found["path_product"].metrics["symmetry/max_abs_difference"].value < 1e-3
    assert found["flat"].metrics["symmetry/max_abs_difference"].value > 0.1


def test_the_table_is_what_the_records_say(copied: Home, peace: Peace) -> None:
    tables = copied.folder / "results" / "tables"
    before = snapshot(tables, without=[Path(EXPERIMENT).parent.name])
    assert sorted(before) == [f"{EXPERIMENT}.{suffix}" for suffix in ("csv", "md", "tex")]
    percent = f"{100 * records(copied)['peace'].metrics['seen/precision@5'].value:.1f}"
    assert f"| peace | {percent}" in (tables / f"{EXPERIMENT}.md").read_text().replace("**", "")
    assert peace("table", EXPERIMENT, "--check") == (0, "4 files are what the records and points say\n", "")

    (tables / f"{EXPERIMENT}.md").write_text("99.9 everywhere\n")
    finished = peace("table", EXPERIMENT, "--check")
    assert finished.code == 1
    assert finished.err.count("\n") == 1 and f"{EXPERIMENT}.md" in finished.err and ".csv" not in finished.err
    assert (tables / f"{EXPERIMENT}.md").read_text() == "99.9 everywhere\n"

    written = peace("table", EXPERIMENT)
    assert written.code == 0 and percent in written.out
    assert snapshot(tables, without=[Path(EXPERIMENT).parent.name]) == before


def test_rows_are_compared_with_the_baseline_by_their_queries(home: Home) -> None:
    table = pd.read_csv(home.folder / "results" / "tables" / f"{EXPERIMENT}.csv", index_col="row")
    assert sorted(table.index[table["p"].notna()]) == sorted(set(METHODS) - {"flat"})
    assert (table["p_holm"].dropna() >= table["p"].dropna()).all()
    folder = home.folder / "results" / "records" / EXPERIMENT
    for method, row in table.drop(index="flat").iterrows():
        ours, theirs = (load_file(folder / name / "seed0.queries.safetensors") for name in (method, "flat"))
        each = (ours["seen/precision@5"] - theirs["seen/precision@5"]).double()
        assert row["difference"] == pytest.approx(each.mean().item(), abs=1e-6)
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]


def test_all_tables_and_the_page_that_lists_them(copied: Home, peace: Peace) -> None:
    results = copied.folder / "results"
    shutil.copytree(copied.folder / "experiments" / EXPERIMENT, copied.folder / "experiments" / "later")
    before = snapshot(results)
    dry = peace("table", "--all", "--dry-run")
    assert dry.code == 0 and f"would write results/tables/{EXPERIMENT}.tex\n" in dry.out and "later" not in dry.out
    assert snapshot(results) == before

    written = peace("table", "--all")
    assert written.code == 0
    assert written.out.startswith(f"later: no records yet\n{EXPERIMENT}: complete: 6 of 6 records\nwritten: results/")
    page = (results / "README.md").read_text().splitlines()
    assert page[-2].startswith("| [later](../experiments/later/README.md) | A small table |")
    (day,) = {record.date[:10] for record in records(copied).values()}
    assert f"| `peace sweep {EXPERIMENT} --local` | complete: 6 of 6 records | {day} |" in page[-1]

    assert peace("table", "--all", "--check") == (0, "4 files are what the records and points say\n", "")
    (results / "tables" / f"{EXPERIMENT}.csv").unlink()
    (results / "README.md").write_text("none")
    (results / "tables" / "gone.md").touch()
    finished = peace("table", "--all", "--check")
    assert finished.code == 1 and finished.err == (
        f"peace: not what records and points say: results/tables/{EXPERIMENT}.csv, results/README.md; "
        "made by no experiment: results/tables/gone.md; run `peace table --all`\n"
    )


@pytest.mark.slow
def test_the_figure_stands_beside_the_csv_of_its_points(copied: Home, peace: Peace) -> None:
    for method, words in (("peace", ()), ("flat", ("producer=flat",))):
        assert peace(*verb("evaluate", f"row.method={method}", "evaluate.points=[0]", *words)).code == 0
    figures = copied.folder / "results" / "figures"
    told = peace("table", EXPERIMENT).out
    assert all(f"written: results/figures/{EXPERIMENT}.{form}\n" in told for form in ("csv", "png", "pdf"))
    points = pd.read_csv(figures / f"{EXPERIMENT}.csv")
    panels = points.groupby("panel")["id"].nunique()
    assert [name.partition(",")[0] for name in panels.index] == ["flat", "peace"] and set(panels) == {32}
    assert (figures / f"{EXPERIMENT}.png").stat().st_size > 10_000

    # Once the run is gone, its points here draw the same picture again, and a changed picture is found.
    before = snapshot(figures)
    shutil.rmtree(copied.folder / "runs")
    (figures / f"{EXPERIMENT}.pdf").write_bytes(b"%PDF")
    finished = peace("table", "--all", "--check")
    assert finished.code == 1 and finished.err.startswith(
        f"peace: not what records and points say: results/figures/{EXPERIMENT}.pdf; run"
    )
    assert peace("table", "--all").code == 0 and snapshot(figures) == before


def _lines(seed: int) -> list[str]:
    """The experiment's commands, less those of most baselines, which differ in a word."""
    left_out = tuple(f"row.method={name} " for name in METHODS[2:-1])
    lines = [task.line for task in manifest(EXPERIMENT, [seed])]
    return [line for line in lines if not any(word in line for word in left_out)]


def test_a_second_call_changes_nothing(copied: Home, peace: Peace) -> None:
    def stable() -> tuple[object, ...]:
        tables = [EmbeddingTable.load(copied.run() / f"{name}.safetensors") for name in ("embeddings", "copies")]
        ranking = Ranking.load(copied.run("metadata") / "ranking.safetensors")
        told = [record.model_dump(exclude={"seconds", "date", "device"}) for record in records(copied).values()]
        index = json.loads((copied.run() / "index" / "index.json").read_text())
        made = [(table.hash, {**table.provenance, "device": ""}) for table in tables]
        return made, ranking.order.tolist(), told, index

    # Files that say how long something took, and those whose metadata safetensors writes in any order.
    compared_above = ("seed0.json", "embedder.json", *(f"{name}.safetensors" for name in STORED))
    before, files = stable(), snapshot(copied.folder, compared_above)
    for line in _lines(0):
        assert peace(*shlex.split(line)[1:]).code == 0, line
    assert stable() == before
    after = snapshot(copied.folder, compared_above)
    assert [path for path in files | after if files.get(path) != after.get(path)] == []


def test_a_dry_run_of_every_line_writes_nothing(copied: Home, peace: Peace) -> None:
    before = snapshot(copied.folder)
    for line in _lines(7):
        if not line.startswith("peace table"):
            assert peace(*shlex.split(line)[1:], "--dry-run").code == 0, line
    assert snapshot(copied.folder) == before


def test_a_sweep_prints_its_lines_with_words_added(home: Home, peace: Peace) -> None:
    finished = peace("sweep", EXPERIMENT, "--seeds", "3", "4", "paths.results=a b")
    lines = finished.out.splitlines()
    assert finished.code == 0
    assert lines[0] == "peace zoo train demo " + SWEEP.partition("train demo ")[2].partition('"')[0] + (
        " seed=3 'paths.results=a b'"
    )
    assert [line.split()[1] for line in lines] == [
        *["zoo"] * 2, *["pretrain"] * 2, *["embed"] * 12, *["evaluate"] * 12, *["index"] * 2, "table"
    ]  # fmt: skip
    assert {shlex.split(line)[-1] for line in lines} == {"paths.results=a b"}


def test_a_sweep_does_not_run_what_depends_on_a_failed_command(copied: Home, peace: Peace) -> None:
    spec = copied.folder / "experiments" / EXPERIMENT / "sweep.yaml"
    steps = ["{command: peace list encoders, once: experiment}", "{command: peace list nothing, once: experiment}",
             "{command: touch reached, once: experiment}"]  # fmt: skip
    spec.write_text(f"seeds: [0]\nsteps: [{', '.join(steps)}]\n")
    finished = peace("sweep", EXPERIMENT, "--local")
    assert finished.code == 2
    assert finished.err.splitlines()[-1] == (
        "peace: 1 of 3 commands failed, 1 that depend on such were not run; "
        "the first ended with exit code 2: peace list nothing"
    )
    assert not (copied.folder / "reached").exists()


def test_axes_of_any_name_reach_the_record(copied: Home, peace: Peace) -> None:
    words = verb("evaluate", "producer=flat", "row.method=flat", "row.layers=3", "evaluate.cutoffs=[1]")
    assert peace(*words).code == 0
    path = copied.folder / "results" / "records" / EXPERIMENT / "3,flat" / "seed0.json"
    assert json.loads(path.read_text())["row"] == {"method": "flat", "layers": "3"}
