"""Scores of single queries beside a record: exact values, the same bytes everywhere, and refusal of what is not theirs."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pandas import Series
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from peace.errors import InputError
from peace.reporting.queries import write_queries
from peace.reporting.record import Metric, Record, read_records, read_scores, write_record

PROVENANCE = {"git_commit": "c", "versions": {"python": "3"}, "device": "cpu", "zoo": "z", "config": "c"}
SCORES = {
    "seen/precision@5": Series({"b": 0.2, "a": 1.0, "c": 0.6}),
    "seen/mrr": Series({"c": 1.0, "b": 0.25, "a": 0.25}),
    "seen, copies/mrr": Series({"a": 0.5, "b": 0.5, "c": 0.5}),
    "unseen/mrr": Series({"d": 1 / 3}),
}


def written(root: Path, scores: dict[str, Series] | None = None) -> Record:
    scores = SCORES if scores is None else scores
    metrics = {name: Metric(each.mean()) for name, each in SCORES.items()} | {"symmetry/change": Metric(1e-7)}
    write_record(root, "digits", {"method": "peace"}, 0, metrics, {}, PROVENANCE, 1.0, queries=scores)
    (record,) = read_records(root, "digits")
    return record


def file(root: Path) -> Path:
    return root / "digits" / "peace" / "seed0.queries.safetensors"


def test_scores_are_kept_in_the_order_of_their_queries_ids(tmp_path: Path) -> None:
    scores = read_scores(tmp_path, written(tmp_path))
    assert {name: each.tolist() for name, each in scores.values.items()} == {
        "seen/precision@5": pytest.approx([1.0, 0.2, 0.6]),
        "seen/mrr": [0.25, 0.25, 1.0],
        "seen, copies/mrr": [0.5, 0.5, 0.5],
        "unseen/mrr": pytest.approx([1 / 3]),
    }
    assert {each.dtype for each in scores.values.values()} == {torch.float32}
    abc = hashlib.sha256(b"a\nb\nc").hexdigest()
    assert scores.ids == {"seen": abc, "seen, copies": abc, "unseen": hashlib.sha256(b"d").hexdigest()}
    assert scores.ids_of("seen, copies/mrr") == abc


def test_the_record_names_the_file_and_its_sha256(tmp_path: Path) -> None:
    record = written(tmp_path)
    content = file(tmp_path).read_bytes()
    assert record.queries.model_dump() == {"file": file(tmp_path).name, "sha256": hashlib.sha256(content).hexdigest()}
    assert sorted(path.name for path in file(tmp_path).parent.iterdir()) == ["seed0.json", "seed0.queries.safetensors"]
    # 10 numbers of 4 bytes; the rest is the header.
    assert len(content) == 40 + 8 + int.from_bytes(content[:8], "little") < 1000


def test_bytes_are_the_same_in_another_process_and_order(tmp_path: Path) -> None:
    written(tmp_path)
    told = json.dumps({name: each.to_dict() for name, each in reversed(SCORES.items())})
    program = (
        "import json, sys; from pathlib import Path; from pandas import Series\n"
        "from peace.reporting.queries import write_queries\n"
        "scores = {name: Series(each) for name, each in json.loads(sys.argv[1]).items()}\n"
        "write_queries(Path('other.json'), scores)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", program, told], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "other.queries.safetensors").read_bytes() == file(tmp_path).read_bytes()


def test_a_record_without_queries_has_no_file_and_leaves_none_behind(tmp_path: Path) -> None:
    written(tmp_path)
    record = written(tmp_path, {})
    assert record.queries is None and read_scores(tmp_path, record) is None
    assert [path.name for path in file(tmp_path).parent.iterdir()] == ["seed0.json"]
    assert "queries" not in json.loads((file(tmp_path).parent / "seed0.json").read_bytes())


def test_metrics_of_one_protocol_have_the_same_queries(tmp_path: Path) -> None:
    others = {"seen/p": Series({"a": 1.0}), "seen/q": Series({"b": 1.0})}
    with pytest.raises(InputError, match=r"not those of the other metrics in the scores of 'seen/q'"):
        write_queries(tmp_path / "seed0.json", others)
    with pytest.raises(InputError, match=r"queries named twice.* 'seen/p'"):
        write_queries(tmp_path / "seed0.json", {"seen/p": Series([1.0, 0.5], index=["a", "a"])})
    assert not list(tmp_path.iterdir())


def test_a_missing_or_other_file_is_refused(tmp_path: Path) -> None:
    record = written(tmp_path)
    content = file(tmp_path).read_bytes()
    file(tmp_path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=r"not those of the record's queries in .*got another sha256; run `peace ev"):
        read_scores(tmp_path, record)
    file(tmp_path).unlink()
    with pytest.raises(InputError, match=r"the scores of a record's queries are missing in .*seed0\.queries"):
        read_scores(tmp_path, record)


def vouched(record: Record, path: Path) -> Record:
    """The record as if it named the file that lies there now."""
    named = record.queries.model_copy(update={"sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    return record.model_copy(update={"queries": named})


@pytest.mark.parametrize("content", [b"", b"{}", b"\x80\x04", b"\xff" * 20])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    record = written(tmp_path)
    file(tmp_path).write_bytes(content)
    with pytest.raises(InputError, match="cannot read the scores of a record's queries"):
        read_scores(tmp_path, vouched(record, file(tmp_path)))


def test_tensors_that_say_nothing_of_their_queries_are_refused(tmp_path: Path) -> None:
    record = written(tmp_path)
    save_file(load_file(file(tmp_path)), file(tmp_path))
    with pytest.raises(InputError, match="cannot read the scores of a record's queries"):
        read_scores(tmp_path, vouched(record, file(tmp_path)))


def test_means_that_are_not_the_record_s_are_refused(tmp_path: Path) -> None:
    record = written(tmp_path)
    with safe_open(file(tmp_path), framework="pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(file(tmp_path))
    tensors["seen/mrr"] += 0.01
    save_file(tensors, file(tmp_path), metadata)
    with pytest.raises(
        InputError, match=r"two means of 'seen/mrr' .*got 0\.5 in the record and 0\.51 over the queries"
    ):
        read_scores(tmp_path, vouched(record, file(tmp_path)))
