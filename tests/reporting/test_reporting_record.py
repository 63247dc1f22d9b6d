"""Records: what is written is what is read, and every broken one is refused by name."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from peace.errors import InputError
from peace.reporting.record import Metric, read_records, record_path, recorded, row_label, write_record

PROVENANCE = {
    "git_commit": "0123abcd",
    "versions": {"torch": "2.11.0", "python": "3.12.1"},
    "device": "cpu x86_64, 1 threads",
    "zoo": "fedcba98",
    "config": "aaaabbbbcccc",
    "date": "2026-01-31T23:59:59Z",
}
EXPECTED = """{
  "config": "aaaabbbbcccc",
  "counts": {"models": 90, "queries": 30},
  "date": "2026-01-31T23:59:59Z",
  "device": "cpu x86_64, 1 threads",
  "experiment": "digits",
  "git_commit": "0123abcd",
  "metrics": {
    "seen/map@r": {"value": 0.5},
    "seen/precision@5": {"chance": 0.1, "high": 0.96, "low": 0.94, "value": 0.951235}
  },
  "notes": {"index_recall": 0.333333},
  "row": {"method": "peace"},
  "seconds": 12.3457,
  "seed": 3,
  "versions": {"python": "3.12.1", "torch": "2.11.0"},
  "zoo": "fedcba98"
}
"""


def write(root: Path, **changes: object) -> Path:
    arguments = {
        "experiment": "digits",
        "row": {"method": "peace"},
        "seed": 3,
        "metrics": {
            "seen/precision@5": Metric(0.95123456, chance=0.1, low=0.94, high=0.96),
            "seen/map@r": Metric(0.5),
        },
        "counts": {"queries": 30, "models": 90},
        "provenance": PROVENANCE,
        "seconds": 12.345678,
        "notes": {"index_recall": 1 / 3},
    }
    return write_record(root, **(arguments | changes))


def test_file_is_exact_and_atomic(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert path == tmp_path / "digits" / "peace" / "seed3.json"
    assert path.read_bytes() == EXPECTED.encode()
    assert [file.name for file in path.parent.iterdir()] == ["seed3.json"]


def test_reads_back_what_was_written(tmp_path: Path) -> None:
    write(tmp_path)
    (record,) = read_records(tmp_path, "digits")
    assert record.metrics == {"seen/precision@5": Metric(0.951235, 0.1, 0.94, 0.96), "seen/map@r": Metric(0.5)}
    assert (record.experiment, record.row, record.seed, record.seconds) == ("digits", {"method": "peace"}, 3, 12.3457)
    assert {key: getattr(record, key) for key in PROVENANCE} == PROVENANCE
    assert record.counts == {"queries": 30, "models": 90}
    assert record.notes == {"index_recall": 0.333333}


def test_numpy_numbers_are_written_as_plain_ones(tmp_path: Path) -> None:
    path = write(tmp_path, seed=np.int64(3), metrics={"m": Metric(np.float32(0.25))}, counts={"models": np.int32(4)})
    content = json.loads(path.read_bytes())
    assert (content["seed"], content["metrics"], content["counts"]) == (3, {"m": {"value": 0.25}}, {"models": 4})


def test_order_is_row_then_seed(tmp_path: Path) -> None:
    for method, seed in (("peace", 10), ("peace", 2), ("flat", 0)):
        write(tmp_path, row={"method": method}, seed=seed)
    assert [(r.row["method"], r.seed) for r in read_records(tmp_path, "digits")] == [
        ("flat", 0),
        ("peace", 2),
        ("peace", 10),
    ]


@pytest.mark.parametrize(
    ("row", "label"),
    [
        ({"method": "peace"}, "peace"),
        ({"loss": "nt_xent", "encoder": "layer_gnn"}, "layer_gnn,nt_xent"),
        ({"model": "google/vit b,16"}, "google%2Fvit%20b%2C16"),
        ({"method": ".."}, "%2E."),
        ({"rate": "0.1"}, "0.1"),
    ],
)
def test_row_labels_are_file_names(row: dict[str, str], label: str) -> None:
    assert row_label(row) == label


def test_rows_with_special_characters_keep_apart(tmp_path: Path) -> None:
    rows = [{"method": value} for value in ("a/b", "a-b", "a%2Fb", "..", "a b")]
    paths = [write(tmp_path, row=row) for row in rows]
    assert len(set(paths)) == len(rows)
    assert all(path.parents[1] == tmp_path / "digits" for path in paths)
    assert len(read_records(tmp_path, "digits")) == len(rows)


def test_an_experiment_may_lie_in_a_folder_of_experiments(tmp_path: Path) -> None:
    outer, inner = write(tmp_path, experiment="paper"), write(tmp_path, experiment="paper/table1")
    assert inner == tmp_path / "paper" / "table1" / outer.relative_to(tmp_path / "paper")
    for experiment, path in (("paper", outer), ("paper/table1", inner)):
        (record,) = read_records(tmp_path, experiment)
        assert record.experiment == experiment and recorded(tmp_path, experiment)
        assert record_path(tmp_path, experiment, record.row, record.seed) == path
    inner.rename(inner.with_name("seed9.json"))
    with pytest.raises(InputError, match=r"in the wrong place in .*: got experiment paper/table1"):
        read_records(tmp_path, "paper/table1")


@pytest.mark.parametrize("experiment", ["../up", "/up", "a/", "a//b", "a/../b", "", ".hidden"])
def test_an_experiment_lies_below_the_records(tmp_path: Path, experiment: str) -> None:
    with pytest.raises(InputError, match="not the name of an experiment"):
        write(tmp_path, experiment=experiment)
    with pytest.raises(InputError, match="not the name of an experiment"):
        read_records(tmp_path, experiment)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": {"r2": Metric(math.nan)}}, "wrong value of 'value' in 'metrics.r2' of .*expected a finite number"),
        ({"metrics": {"r2": Metric(0.1, low=-math.inf, high=1.0)}}, "'low' in 'metrics.r2'.*expected a finite number"),
        ({"metrics": {"r2": Metric(0.1, low=0.0)}}, "metric 'r2' has one bound of its interval but not the other"),
        ({"metrics": {"r2": Metric(0.1, low=0.2, high=0.1)}}, "metric 'r2' has its lower bound above its upper bound"),
        ({"metrics": {}}, "wrong value of 'metrics'.*at least 1 item"),
        ({"notes": {"recall": math.inf}}, "a number that is not finite in 'notes' of"),
        ({"row": {}}, "a row needs at least one value"),
        ({"row": {"method": ""}}, "a row needs at least one value and no empty one"),
        ({"seed": -1}, "wrong value of 'seed'"),
        ({"provenance": PROVENANCE | {"zoo": None}}, "wrong value of 'zoo'.*expected a valid string"),
        ({"provenance": {"git_commit": "x"}}, "missing key 'versions' in"),
        ({"provenance": PROVENANCE | {"devise": "cpu"}}, r"unknown key 'devise' \(did you mean 'device'\?\)"),
    ],
)
def test_bad_results_are_not_written(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write(tmp_path, **changes)
    assert not list(tmp_path.rglob("*"))


def test_failed_write_keeps_the_old_record(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(InputError):
        write(tmp_path, metrics={"r2": Metric(math.nan)})
    assert path.read_bytes() == EXPECTED.encode()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"device": "cpu x86_64, 1 threads",', "", "missing key 'device' in"),
        ('{"value": 0.5}', '{"chance": 0.5}', "missing key 'value' in 'metrics.seen/map@r' of"),
        ('"value": 0.5', '"value": "0.5"', "got '0.5', expected a valid number"),
        ('"value": 0.5', '"value": true', "got True, expected a valid number"),
        ('"value": 0.5', '"value": NaN', "got nan, expected a finite number"),
        ('"value": 0.5', '"value": 1e999', "got inf, expected a finite number"),
        ('"value": 0.5', '"value": 0.5, "std": 1', "wrong value of 'std'.*Unexpected keyword argument"),
        ('"index_recall": 0.333333', '"index_recall": Infinity', "a number that is not finite in 'notes'"),
        ('"seed": 3', '"seed": 3.5', "wrong value of 'seed'"),
        ('"seed": 3', '"seed": 4', "a record lies in the wrong place .*seed 4"),
        ('"method": "peace"', '"method": "flat"', "a record lies in the wrong place .*row flat"),
        ('"method": "peace"', '"method": ""', "wrong value of 'method' in 'row' of"),
        ('"experiment": "digits"', '"experiment": "../other"', "a record lies in the wrong place"),
        ('"zoo"', '"zoos"', r"unknown key 'zoos' \(did you mean 'zoo'\?\)"),
        ("{\n", "[\n", "unreadable file"),
        (EXPECTED, "", "unreadable file"),
        (EXPECTED, "[]", "wrong content"),
        (EXPECTED, "[" * 100_000, "unreadable file"),
    ],
)
def test_bad_records_are_refused_by_name(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path)
    assert old in EXPECTED
    path.write_text(EXPECTED.replace(old, new, 1))
    with pytest.raises(InputError, match=message) as caught:
        read_records(tmp_path, "digits")
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500


def test_no_records_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no records in .*digits; make them with `peace sweep digits --local`"):
        read_records(tmp_path, "digits")


def test_record_path_is_where_it_is_written(tmp_path: Path) -> None:
    assert record_path(tmp_path, "digits", {"method": "peace"}, 3) == write(tmp_path)


def test_leftover_temporary_file_is_ignored(tmp_path: Path) -> None:
    path = write(tmp_path)
    (path.parent / ".seed9.json.k3j2.json").write_text("{")
    assert len(read_records(tmp_path, "digits")) == 1
