"""Readers on real files of public repositories, good and bad; `PEACE_DATA` names the folder that holds them."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from peace.errors import InputError
from peace.zoo.readers import read_state_dict

DATA = os.environ.get("PEACE_DATA")
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_state_dict(path)
    sentence = str(caught.value)
    assert str(path) in sentence and "\n" not in sentence and caught.value.exit_code == 2
    return sentence


def manifest(name: str) -> list[dict[str, Any]]:
    if not DATA:
        reason = "PEACE_DATA does not name the folder of real checkpoints"
        return [pytest.param({}, id="no data", marks=pytest.mark.skip(reason=reason))]  # type: ignore[list-item]
    lines = (Path(DATA) / name / "manifest.jsonl").read_text().splitlines()
    return [pytest.param(line, id=line.get("file", line.get("id"))) for line in map(json.loads, lines)]  # type: ignore[misc]


WORDS = {
    "LFS pointer": "git-LFS pointer",
    "too short": "too short",
    "truncated": "truncated",
    "unknown format": "unknown format",
    "no weights inside": "no weights",
    "without allocating": "header said to be 1099511627776 bytes",
    "no NaN": "NaN or infinite weights .*7 of 4160 in 'convhead2.weight'",
    "clear message": "TorchScript",
    "without running code": "TorchScript.*never executed",
    "10 scalars": "no weights",
    "handle": "no weights",
}


@pytest.mark.parametrize("line", manifest("wild_bad"))
def test_bad_files_of_the_wild_are_refused_as_expected(line: dict[str, Any]) -> None:
    path, expected = Path(DATA or "") / "wild_bad" / line["file"], line["expect"]
    if expected.startswith("load;"):
        found, _ = read_state_dict(path)
        whole, _ = read_state_dict(Path(DATA or "") / "wild" / "alike-t.safetensors")
        assert found.keys() == whole.keys()
        assert all(torch.equal(found[name], tensor.bfloat16()) for name, tensor in whole.items())
        return
    sentence = refusal(path)
    if "class" in expected:
        asked = set(re.findall(r"[\w.]+\.\w+", sentence.partition("asks for")[2].partition(" it is")[0]))
        assert "never executed" in sentence and asked & set(line["pickle_globals"])
    else:
        words = next((words for key, words in WORDS.items() if key in expected), "gzip")
        assert re.search(words, sentence)


@pytest.mark.parametrize("line", manifest("wild_raw"))
def test_original_files_of_the_wild_equal_their_safetensors_twins(line: dict[str, Any]) -> None:
    path = Path(DATA or "") / "wild_raw" / line["file"]
    if path.read_bytes()[:2] not in (b"PK", b"\x80\x02") or path.suffix == ".zip":
        assert "expected a safetensors file or a torch checkpoint" in refusal(path)
        return
    if "chemprop" in line["file"]:
        assert "argparse.Namespace" in refusal(path)
        return
    found, _ = read_state_dict(path)
    twin = load_file(Path(DATA or "") / "wild" / f"{line['same_as']}.safetensors")
    floats = {name: tensor for name, tensor in twin.items() if tensor.is_floating_point()}
    assert {name: found[name] for name in floats}.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in floats.items())


@pytest.mark.parametrize("line", manifest("wild"))
def test_public_checkpoints_give_every_floating_tensor(line: dict[str, Any]) -> None:
    path = Path(DATA or "") / "wild" / f"{line['id']}.safetensors"
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        metadata = file.metadata() or {}
    floats = {name: tensor for name, tensor in tensors.items() if tensor.dtype in FLOATS}
    if not floats:
        assert "no weights" in refusal(path)
        return
    found, own = read_state_dict(path)
    assert own == metadata
    assert all(torch.equal(found[name], floats[name]) for name in found)
    assert all(floats[name].dim() == 0 and floats[name].isinf() for name in floats.keys() - found.keys())
