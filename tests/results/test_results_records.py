"""What is committed under `results`: every record is valid, and every table is what the records say, byte for byte."""

import json
from pathlib import Path

import pytest

from peace.reporting.record import read_records
from peace.reporting.table import check_table

ROOT = Path(__file__).parents[2]
RECORDS, TABLES, EXPERIMENTS = ROOT / "results" / "records", ROOT / "results" / "tables", ROOT / "experiments"

# `scratch` is where runs outside any experiment write; it is not committed.
PATHS = {path for path in RECORDS.glob("*/*/seed*.json") if path.relative_to(RECORDS).parts[0] != "scratch"}
RECORDED = sorted({path.relative_to(RECORDS).parts[0] for path in PATHS})
TABLED = [name for name in RECORDED if (EXPERIMENTS / name / "table.yaml").is_file()]

pytestmark = pytest.mark.skipif(not RECORDED, reason="results/records holds no record yet")


def test_nothing_else_lies_among_the_records() -> None:
    files = {path for path in RECORDS.rglob("*") if path.is_file() and not path.name.startswith(".")}
    assert {path for path in files if path.relative_to(RECORDS).parts[0] != "scratch"} == PATHS


@pytest.mark.parametrize("experiment", RECORDED)
def test_every_record_is_valid_and_small(experiment: str) -> None:
    paths = list(RECORDS.glob(f"{experiment}/*/seed*.json"))
    assert len(read_records(RECORDS, experiment)) == len(paths)
    assert max(path.stat().st_size for path in paths) < 10_000


@pytest.mark.parametrize("experiment", RECORDED)
def test_every_record_belongs_to_an_experiment(experiment: str) -> None:
    assert experiment in TABLED


@pytest.mark.parametrize("experiment", RECORDED)
def test_rows_of_one_seed_were_scored_on_one_zoo_by_one_commit(experiment: str) -> None:
    seeds: dict[int, set[str]] = {}
    for record in read_records(RECORDS, experiment):
        seeds.setdefault(record.seed, set()).add(record.zoo)
    assert {seed: zoos for seed, zoos in seeds.items() if len(zoos) > 1} == {}


@pytest.mark.parametrize("experiment", TABLED)
def test_every_table_is_what_the_records_say(experiment: str) -> None:
    assert check_table(experiment, EXPERIMENTS, RECORDS, TABLES) == []


def test_every_table_has_records() -> None:
    assert sorted({path.stem for path in TABLES.iterdir() if not path.name.startswith(".")}) == TABLED


@pytest.mark.parametrize("experiment", RECORDED)
def test_no_path_of_the_machine_is_in_a_record(experiment: str) -> None:
    for path in RECORDS.glob(f"{experiment}/*/seed*.json"):
        told = json.dumps(json.loads(path.read_text())["notes"])
        assert "/home/" not in told and "/tmp/" not in told, path
