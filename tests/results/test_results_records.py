"""What is committed under `results`: every record is valid, and everything else follows from them, byte for byte."""

import json
import re
from pathlib import Path

import pytest

from peace.cli import main
from peace.experiments import experiments_with
from peace.reporting.record import read_records, read_scores
from peace.reporting.results import Results
from peace.reporting.table import paper_of

ROOT = Path(__file__).parents[2]
RECORDS, EXPERIMENTS = ROOT / "results" / "records", ROOT / "experiments"

# `scratch` is where runs outside any experiment write; it is not committed.
PATHS = {path for path in RECORDS.rglob("seed*.json") if path.relative_to(RECORDS).parts[0] != "scratch"}
RECORDED = sorted({path.relative_to(RECORDS).parents[1].as_posix() for path in PATHS})

pytestmark = pytest.mark.skipif(not RECORDED, reason="results/records holds no record yet")


def test_nothing_else_lies_among_the_records() -> None:
    named = {path: json.loads(path.read_bytes()).get("queries") for path in PATHS}
    scores = {path.parent / told["file"] for path, told in named.items() if told}
    files = {path for path in RECORDS.rglob("*") if path.is_file() and not path.name.startswith(".")}
    assert {path for path in files if path.relative_to(RECORDS).parts[0] != "scratch"} == PATHS | scores


@pytest.mark.parametrize("experiment", RECORDED)
def test_every_record_is_valid_and_small(experiment: str) -> None:
    paths = list(RECORDS.glob(f"{experiment}/*/seed*.json"))
    assert len(read_records(RECORDS, experiment)) == len(paths)
    # The largest are those of probes that are scored on four zoos.
    assert max(path.stat().st_size for path in paths) < 12_000


@pytest.mark.parametrize("experiment", RECORDED)
def test_the_scores_of_single_queries_are_those_of_their_record_and_small(experiment: str) -> None:
    for record in read_records(RECORDS, experiment):
        if scores := read_scores(RECORDS, record):
            counted = {int(each.numel()) for each in scores.values.values()}
            assert counted <= {count for name, count in record.counts.items() if name.startswith("queries")}
    assert all(path.stat().st_size < 50_000 for path in RECORDS.glob(f"{experiment}/*/*.safetensors"))


@pytest.mark.parametrize("experiment", RECORDED)
def test_every_record_belongs_to_an_experiment(experiment: str) -> None:
    assert (EXPERIMENTS / experiment / "table.yaml").is_file()


@pytest.mark.parametrize("experiment", RECORDED)
def test_rows_of_one_seed_were_scored_on_one_zoo(experiment: str) -> None:
    # The rows of an experiment with an axis `zoo` have a zoo for each of its values.
    seeds: dict[tuple[int, str], set[str]] = {}
    for record in read_records(RECORDS, experiment):
        seeds.setdefault((record.seed, record.row.get("zoo", "")), set()).add(record.zoo)
    assert {key: zoos for key, zoos in seeds.items() if len(zoos) > 1} == {}


def test_tables_figures_and_the_page_are_what_records_and_points_say(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("PEACE_HOME", raising=False)
    code = main(["table", "--all", "--check"])
    told = capsys.readouterr()
    assert (code, told.err) == (0, "")
    assert re.fullmatch(r"\d+ files are what the records and points say\n", told.out)


@pytest.mark.slow
def test_every_experiment_with_records_is_checked_in_every_form() -> None:
    results = Results(ROOT / "results", EXPERIMENTS)
    compared = {path.relative_to(ROOT / "results").as_posix() for path in results.files(results.names())}
    shown = {name for name in results.names() if results.records(name)}
    assert shown >= set(RECORDED)
    tables = {f"tables/{name}.{form}" for name in shown for form in ("md", "tex", "csv")}
    figures = ROOT / "results" / "figures"
    drawn = [path.relative_to(figures).with_suffix("").as_posix() for path in figures.rglob("*.csv")]
    pictures = {f"figures/{name}.{form}" for name in drawn for form in ("csv", "png", "pdf")}
    assert "demo" in drawn and compared == {"README.md"} | tables | pictures


@pytest.mark.parametrize("experiment", experiments_with(EXPERIMENTS, "paper.csv"))
def test_a_paper_s_figures_are_those_of_cells_of_the_table(experiment: str) -> None:
    paper = paper_of(EXPERIMENTS / experiment / "table.yaml")
    assert paper is not None and paper.values and re.match(r"(Tables?|Figure) .*, arXiv:\d{4}\.\d{5}$", paper.source)


@pytest.mark.parametrize("experiment", RECORDED)
def test_no_path_of_the_machine_is_in_a_record(experiment: str) -> None:
    for path in RECORDS.glob(f"{experiment}/*/seed*.json"):
        told = json.dumps(json.loads(path.read_text())["notes"])
        assert "/home/" not in told and "/tmp/" not in told, path
