"""Checkpoints in folders."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from peace.errors import InputError
from peace.zoo.checkpoint import open_checkpoint
from peace.zoo.collection import collection
from peace.zoo.stored import StoredWeights


def file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"w": torch.ones(2)}, path)
    return path


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Two files with a manifest, a folder as the Hub has them, and one in shards."""
    folder = tmp_path / "models"
    for name in ("a.safetensors", "b.pt", "hub/x/model.safetensors", "big/m-1.safetensors", "big/m-2.safetensors"):
        file(folder / name)
    (folder / "hub" / "x" / "config.json").write_text("{}")
    (folder / "big" / "m.safetensors.index.json").write_text('{"weight_map": {"w": "m-1.safetensors"}}')
    (folder / "notes.md").write_text("none")
    lines = [{"file": "a.safetensors", "task": "digits", "n": 3, "dataset": None}, {"file": "c.pt", "task": "x"}]
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def test_a_folder_is_searched_with_what_is_below(models: Path) -> None:
    found = collection(str(models))
    assert [entry.id for entry in found] == ["a.safetensors", "b.pt", "big", "hub/x"]
    assert [entry.path for entry in found] == [models / entry.id for entry in found]
    assert [entry.about for entry in found] == [{"task": "digits"}, {}, {}, {}]
    assert found[0].size == (models / "a.safetensors").stat().st_size
    assert collection(str(models / "hub" / "x"))[0].id == "x"


TRAINING = ("optimizer.pt", "scheduler.pt", "scaler.pt", "training_args.bin", "rng_state.pth", "rng_state_1.pth")


def test_a_model_in_both_formats_of_the_hub_is_one_and_a_training_state_is_none(tmp_path: Path) -> None:
    root = tmp_path / "models"
    both = ("model.safetensors", "pytorch_model.bin")
    shards = (
        "model-00001-of-00001.safetensors",
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
    )
    for folder, names in {"hub": both, "shards": shards, "bare": both, "torch": both[1:], "mine": ("a.bin",)}.items():
        for name in (*names, *TRAINING):
            file(root / folder / name)
        if folder != "bare":
            (root / folder / "config.json").write_text("{}")
    (root / "shards" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": shards[0]}}))
    for folder in ("bare", "shards"):
        (root / folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"w": shards[1]}}))
    found = collection(str(root))
    assert [entry.id for entry in found] == ["bare/model.safetensors", "hub", "mine", "shards", "torch"]
    assert [open_checkpoint(entry.path).files[0].name for entry in found] == [
        both[0],
        both[0],
        "a.bin",
        shards[0],
        both[1],
    ]
    assert found[1].size == (root / "hub" / both[0]).stat().st_size + 2, "the files that are read, and config.json"
    assert [entry.id for entry in collection(str(root / "torch" / "*"))] == [both[1]]
    # Models of other names are several, whatever their formats.
    file(root / "mine" / "b.safetensors")
    assert [entry.id for entry in collection(str(root / "mine"))] == ["a.bin", "b.safetensors"]


def test_a_checkpoint_in_shards_of_torch_files_is_one(tmp_path: Path) -> None:
    names = [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
    for number, name in enumerate(names):
        file(tmp_path / "models" / "big" / name)
        torch.save({f"w{number}": torch.ones(2, 2)}, tmp_path / "models" / "big" / name)
    index = tmp_path / "models" / "big" / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {f"w{number}": name for number, name in enumerate(names)}}))
    for place, name in ((tmp_path / "models", "big"), (index, index.name)):
        (entry,) = collection(str(place))
        assert entry.id == name and [path.name for path in open_checkpoint(entry.path).files] == names
        assert {key: weight.sum() for key, weight in StoredWeights(open_checkpoint(entry.path)).items()} == {
            "w0": 4,
            "w1": 4,
        }
        assert entry.size == sum(path.stat().st_size for path in index.parent.iterdir())


def test_an_index_that_is_named_changes_with_its_own_shards(tmp_path: Path) -> None:
    for name in ("model.safetensors", "pytorch_model-00001-of-00001.bin"):
        file(tmp_path / name)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "pytorch_model-00001-of-00001.bin"}}))
    before = collection(str(index))[0].identity("e")
    os.utime(tmp_path / "model.safetensors", ns=(1, 1))
    assert collection(str(index))[0].identity("e") == before
    os.utime(tmp_path / "pytorch_model-00001-of-00001.bin", ns=(2**62, 2**62))
    assert collection(str(index))[0].identity("e") != before


def test_a_link_that_leads_nowhere_is_told_when_it_is_read(tmp_path: Path) -> None:
    root = tmp_path / "models"
    file(root / "a.safetensors")
    for path in (root / "hub" / "model.safetensors", root / "lost.pt"):
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(root / "blobs" / "gone")
    (root / "hub" / "config.json").write_text("{}")
    found = collection(str(root))
    assert [entry.id for entry in found] == ["a.safetensors", "hub", "lost.pt"]
    assert found[2].size == 0 and [entry.id for entry in collection(str(root / "*"))] == [
        "a.safetensors",
        "hub",
        "lost.pt",
    ]
    for entry in found[1:]:
        with pytest.raises(InputError, match="got a link to a file that is not there"):
            open_checkpoint(entry.path)


def test_patterns_files_and_lists(models: Path) -> None:
    assert [entry.id for entry in collection(str(models / "*"))] == ["a.safetensors", "b.pt", "big", "hub/x"]
    assert [entry.id for entry in collection(str(models / "**" / "model.safetensors"))] == ["hub/x/model.safetensors"]
    both = collection([str(models / "b.pt"), str(models / "a.*")])
    assert [entry.id for entry in both] == ["a.safetensors", "b.pt"]
    other = file(models.parent / "other" / "b.pt")
    assert {entry.id for entry in collection([str(models / "b.pt"), str(other)])} == {str(models / "b.pt"), str(other)}


def test_an_identity_changes_with_the_file_and_the_embedder(models: Path) -> None:
    (entry,) = collection(str(models / "b.pt"))
    before = entry.identity("e")
    assert before == collection([str(models / "b.pt")])[0].identity("e") != entry.identity("f")
    os.utime(models / "b.pt", ns=(1, 1))
    assert collection(str(models / "b.pt"))[0].identity("e") != before


def test_where_there_is_none_it_is_said(models: Path) -> None:
    (models / "empty").mkdir()
    for place in (models / "empty", models / "no.pt", models / "*.none", models / "notes.md"):
        with pytest.raises(InputError, match=r"no checkpoint in '.*files of weights"):
            collection(str(place))
    (models / "manifest.jsonl").write_text("[1]\n")
    with pytest.raises(InputError, match=r"cannot read the manifest in .*manifest\.jsonl"):
        collection(str(models))
