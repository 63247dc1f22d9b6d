"""Checkpoints: a file or a folder, with what travels along, and none of its numbers."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_zoo_storage import zoo  # noqa: F401 - a fixture

from peace.errors import InputError
from peace.zoo.checkpoint import Checkpoint, open_checkpoint, zoo_checkpoint
from peace.zoo.readers import read_shapes
from peace.zoo.storage import Zoo

TENSORS = {
    "a.weight": torch.ones(3, 2),
    "a.bias": torch.full((3,), float("nan")),
    "count": torch.tensor(7),
    "packed": torch.ones(4, 2, dtype=torch.int8),
    "half": torch.ones(5, dtype=torch.bfloat16),
}


def shapes(checkpoint: Checkpoint) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in checkpoint.tensors.items()}


EXPECTED = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in TENSORS.items()}


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt", "legacy.pth"])
def test_a_file_gives_every_tensor_without_its_numbers(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("safetensors"):
        save_file(TENSORS, path, metadata={"architecture": "mine"})
    else:
        torch.save({"state_dict": TENSORS}, path, _use_new_zipfile_serialization=name == "m.pt")
    (tmp_path / "config.json").write_text('{"architecture": "resnet18"}')
    found = open_checkpoint(path)
    assert shapes(found) == EXPECTED
    assert {tensor.device.type for tensor in found.tensors.values()} == {"meta"}
    assert found.floats == {"a.weight": (3, 2), "a.bias": (3,), "half": (5,)}
    assert found.metadata == ({"architecture": "mine"} if name.endswith("safetensors") else {})
    # What lies beside a file may belong to another.
    assert found.config is None


def test_only_the_header_of_a_safetensors_file_is_read(tmp_path: Path) -> None:
    size = 1 << 40
    entry = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    header = json.dumps(
        {"w": entry, "eight": {"dtype": "F8_E4M3", "shape": [0], "data_offsets": [size, size]}}
    ).encode()
    path = tmp_path / "huge.safetensors"
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    found, _ = read_shapes(path)
    assert tuple(found["w"].shape) == (size // 4,)
    assert not found["eight"].is_floating_point()


def test_a_folder_is_its_weights_and_its_config(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    torch.save(TENSORS, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text('{"architecture": "resnet18"}')
    found = open_checkpoint(tmp_path)
    assert shapes(found) == EXPECTED
    assert found.files == (tmp_path / "model.safetensors",)
    assert found.config == {"architecture": "resnet18"}


def sharded(folder: Path, save: Callable[..., None], stem: str, suffix: str) -> Path:
    folder.mkdir(exist_ok=True)
    names = list(TENSORS)
    files = {name: f"{stem}-0000{1 + place % 2}-of-00002.{suffix}" for place, name in enumerate(names)}
    for file in set(files.values()):
        save({name: TENSORS[name] for name in names if files[name] == file}, folder / file)
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"weight_map": files}))
    return index


@pytest.mark.parametrize(
    ("save", "stem", "suffix"), [(save_file, "model", "safetensors"), (torch.save, "pytorch_model", "bin")]
)
def test_shards_are_put_together(tmp_path: Path, save: Callable[..., None], stem: str, suffix: str) -> None:
    index = sharded(tmp_path, save, stem, suffix)
    for path in (tmp_path, index):
        found = open_checkpoint(path)
        assert shapes(found) == EXPECTED and {file.suffix for file in found.files} == {f".{suffix}"}


def test_safetensors_go_before_shards_of_torch_files(tmp_path: Path) -> None:
    for name in ("shards", "whole"):
        sharded(tmp_path / name, torch.save, "pytorch_model", "bin")
    sharded(tmp_path / "shards", save_file, "model", "safetensors")
    save_file(TENSORS, tmp_path / "whole" / "consolidated.safetensors")
    for name in ("shards", "whole"):
        assert {file.suffix for file in open_checkpoint(tmp_path / name).files} == {".safetensors"}


def test_a_tensor_that_an_index_lists_and_no_shard_holds_is_named(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "one.safetensors")
    files = {name: "one.safetensors" for name in (*TENSORS, "c.weight", "d.weight")}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": files}))
    for path in (tmp_path, index):
        with pytest.raises(InputError, match=r"missing in .*index\.json: got 'c\.weight', which none"):
            open_checkpoint(path)


def test_the_weights_themselves_come_from_every_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_file({name: torch.full((2, 2), float(len(name)))}, tmp_path / f"{name}.safetensors")
    files = (tmp_path / "one.safetensors", tmp_path / "two.safetensors")
    found = Checkpoint(tmp_path, files, {}, {}).weights()
    assert {name: tensor.sum().item() for name, tensor in found.items()} == {"one": 12.0, "two": 12.0}


def test_a_model_of_a_zoo_says_its_architecture(zoo: Zoo) -> None:  # noqa: F811
    model = zoo.rows["id"].iloc[1]
    found = zoo_checkpoint(zoo, model)
    stacked = zoo.weights(zoo.rows[zoo.rows["id"] == model])
    assert found.floats == {name: tuple(tensor.shape[1:]) for name, tensor in stacked.items()}
    assert found.metadata["architecture_config"] == zoo.record(model).architecture_config
    with pytest.raises(InputError, match="no model 'mlp' in"):
        zoo_checkpoint(zoo, "mlp")


def written(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None  # type: ignore[func-returns-value]


def two_files(folder: Path) -> None:
    for name in ("a", "b"):
        save_file(TENSORS, folder / f"{name}.safetensors")


def broken_config(folder: Path) -> None:
    save_file(TENSORS, folder / "a.safetensors")
    (folder / "config.json").write_text("{")


CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "nothing": (lambda folder: None, "got no file of weights, expected one of .safetensors"),
    "several": (two_files, "got a.safetensors, b.safetensors: several files .*name the file itself"),
    "a broken config": (broken_config, "cannot read JSON in .*config.json: got Expecting property name"),
    "an index that is a list": (written("m.safetensors.index.json", "[]"), "got a list, expected an object"),
    "an index of nothing": (written("m.safetensors.index.json", "{}"), "not an index of shards .*'weight_map'"),
    "a shard that is not there": (
        written("m.safetensors.index.json", '{"weight_map": {"a": "../away.safetensors"}}'),
        "weights in .*away.safetensors: got no file of that name",
    ),
    "tensors of nothing": (written("a.safetensors", "{}"), "too short for any checkpoint"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path, case: str) -> None:
    prepare, sentence = CASES[case]
    prepare(tmp_path)
    with pytest.raises(InputError, match=sentence) as caught:
        open_checkpoint(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "m.pt")
    with pytest.raises(InputError, match=r"got no tensors, expected a mapping of names"):
        open_checkpoint(tmp_path / "m.pt")
