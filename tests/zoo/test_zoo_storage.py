"""Zoos on disk: what is written is read, opening reads no tensor, and `verify` finds what is wrong."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from peace.errors import InputError
from peace.zoo.record import ModelRecord, frame, record
from peace.zoo.storage import MANIFEST, Zoo, tensor_hashes, write_manifest, write_stack

RUNS, EPOCHS = 4, (1, 2)
SHAPES = {"0.weight": (3, 2), "0.bias": (3,)}


def tensors(architecture: str, run: int, epoch: int) -> dict[str, Tensor]:
    """Numbers that tell where they belong: 1000 × architecture + 100 × run + 10 × epoch + place in the tensor."""
    start = 1000.0 * (architecture == "b") + 100 * run + 10 * epoch
    return {name: start + torch.arange(float(torch.Size(shape).numel())).view(shape) for name, shape in SHAPES.items()}


def hashed(own: Mapping[str, Tensor]) -> str:
    return tensor_hashes({name: tensor[None] for name, tensor in own.items()})[0]


def model(architecture: str, run: int, epoch: int, file: str, index: int) -> ModelRecord:
    return ModelRecord(
        id=f"{architecture}-{run}-{epoch}", task=f"digits:0|{run + 1}", dataset="digits", architecture=architecture,
        architecture_config=f'{{"name": "{architecture}"}}', family="mlp", run_id=f"{architecture}{run}",
        recipe="r", epoch=epoch, parent=None, split="test" if run == 3 else "train", status="ok",
        tags=["digits", "digit-0"], seed=2**62 + run, initialisation="normal", activation="relu", optimizer="adam",
        learning_rate=0.1, weight_decay=0.0, dropout=0.0, train_fraction=1.0, batch_size=8, train_loss=0.5,
        test_loss=0.625, train_accuracy=0.75, test_accuracy=0.5, train_f1=[0.5, 1.0], test_f1=[0.25, 0.0],
        generalisation_gap=0.25, weights_file=file, weights_index=index,
        sha256=hashed(tensors(architecture, run, epoch)),
    )  # fmt: skip


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    """Two architectures, four runs each with two checkpoints, two runs a file, stored run by run."""
    records = []
    for architecture in "ab":
        for part in range(2):
            file = f"{architecture}-{part}.safetensors"
            places = [(run, epoch) for run in (2 * part, 2 * part + 1) for epoch in EPOCHS]
            stored = [tensors(architecture, run, epoch) for run, epoch in places]
            write_stack(tmp_path, file, {name: torch.stack([own[name] for own in stored]) for name in SHAPES})
            records += [model(architecture, *place, file, index) for index, place in enumerate(places)]
    return write_manifest(tmp_path, frame(records))


def changed(zoo: Zoo, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Zoo:
    return write_manifest(zoo.folder, change(zoo.rows.copy()))


def test_what_is_written_is_read(zoo: Zoo) -> None:
    found = Zoo.open(zoo.folder)
    assert found.hash == zoo.hash and len(found.rows) == 16
    assert found.verify() == []
    row = asdict(found.record("b-2-1"))
    row |= {name: list(row[name]) for name in ("tags", "train_f1", "test_f1")}
    pd.testing.assert_series_equal(pd.Series(row), pd.Series(asdict(model("b", 2, 1, "b-1.safetensors", 0))))


def test_a_manifest_older_than_corruptions_is_of_sound_models(zoo: Zoo) -> None:
    names = ["corruption", "corruption_config", "attack_success", "robust_accuracy"]
    found = changed(zoo, lambda rows: rows.drop(columns=names))
    assert set(found.rows["corruption"]) == {"none"} and found.rows["attack_success"].isna().all()
    assert found.hash == zoo.hash and found.record("b-2-1").corruption_config == '{"name": "none"}'
    with pytest.raises(InputError, match=r"the manifest lacks columns .*got \['seed'\]"):
        changed(zoo, lambda rows: rows.drop(columns="seed"))


def test_opening_reads_no_tensor(zoo: Zoo) -> None:
    for file in (zoo.folder / "weights").iterdir():
        file.unlink()
    found = Zoo.open(zoo.folder)
    assert found.hash == zoo.hash
    with pytest.raises(InputError, match=r"cannot read the zoo's weights in .*safetensors"):
        found.weights(found.rows.head(1))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("architecture", ["a", "b"])
def test_weights_come_in_the_rows_order(architecture: str, seed: int, zoo: Zoo) -> None:
    rows = zoo.rows[zoo.rows["architecture"] == architecture].sample(frac=0.8, random_state=seed)
    found = zoo.weights(rows)
    assert {name: value.shape for name, value in found.items()} == {
        name: (len(rows), *shape) for name, shape in SHAPES.items()
    }
    for place, (run_id, epoch) in enumerate(zip(rows["run_id"], rows["epoch"], strict=True)):
        for name, expected in tensors(architecture, int(run_id[1:]), epoch).items():
            assert torch.equal(found[name][place], expected)


def test_weights_do_not_depend_on_the_frame_s_index(zoo: Zoo) -> None:
    rows = zoo.rows[zoo.rows["architecture"] == "a"].iloc[::-1]
    for other in (rows.reset_index(drop=True), rows.set_index(pd.Index(range(100, 108)))):
        for name, value in zoo.weights(rows).items():
            assert torch.equal(zoo.weights(other)[name], value)


def test_a_model_may_be_asked_for_twice(zoo: Zoo) -> None:
    row = zoo.rows[zoo.rows["id"] == "a-3-2"]
    twice = zoo.weights(pd.concat([row, row], ignore_index=True))["0.weight"]
    assert torch.equal(twice[0], twice[1]) and torch.equal(twice[0], tensors("a", 3, 2)["0.weight"])


def test_models_of_two_architectures_do_not_stack(zoo: Zoo) -> None:
    with pytest.raises(InputError, match=r"several architectures do not stack: got \['a', 'b'\]"):
        zoo.weights(zoo.rows)
    assert [set(part["architecture"]) for part in zoo.by_architecture()] == [{"a"}, {"b"}]
    assert [len(part) for part in zoo.by_architecture(zoo.rows[zoo.rows["epoch"] == 2])] == [4, 4]


def test_an_unknown_model_is_refused(zoo: Zoo) -> None:
    with pytest.raises(InputError, match=r"no model 'a-3-9' in .*did you mean 'a-3-"):
        zoo.record("a-3-9")


# --- what verify finds


def test_a_flipped_bit_is_found_and_named(zoo: Zoo) -> None:
    path = zoo.folder / "weights" / "a-1.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (sentence,) = zoo.verify()
    assert sentence == "model a-3-2 in a-1.safetensors does not match its sha256"


def test_a_broken_file_is_found_and_the_others_are_still_checked(zoo: Zoo) -> None:
    path = zoo.folder / "weights" / "a-0.safetensors"
    path.write_bytes(path.read_bytes()[:40])
    other = zoo.folder / "weights" / "b-1.safetensors"
    content = bytearray(other.read_bytes())
    content[-1] ^= 1
    other.write_bytes(content)
    first, second = zoo.verify()
    assert "cannot read the zoo's weights" in first and "a-0.safetensors" in first
    assert "b-1.safetensors does not match" in second


def test_an_index_beyond_the_stack_is_found(zoo: Zoo) -> None:
    found = changed(zoo, lambda rows: rows.assign(weights_index=rows["weights_index"].replace(3, 4)))
    assert len(found.verify()) == 4


def test_swapped_weights_are_found(zoo: Zoo) -> None:
    found = changed(zoo, lambda rows: rows.assign(weights_index=rows["weights_index"].replace({0: 1, 1: 0})))
    assert len(found.verify()) == 8


def test_an_id_listed_twice_is_found(zoo: Zoo) -> None:
    found = changed(zoo, lambda rows: rows.assign(id=rows["id"].replace("a-0-2", "a-0-1")))
    assert found.verify() == ["id a-0-1 is listed twice"]


def test_a_run_in_two_splits_is_found(zoo: Zoo) -> None:
    def parted(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(split=rows["split"].mask(rows["id"] == "b-1-2", "val"))

    assert changed(zoo, parted).verify() == ["run b1 is in several splits"]


# --- the manifest


def test_no_manifest_is_no_zoo(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no zoo in .*expected manifest.parquet; make one with `peace zoo train"):
        Zoo.open(tmp_path)


def test_an_empty_zoo_is_refused(zoo: Zoo) -> None:
    with pytest.raises(InputError, match="the zoo is empty"):
        changed(zoo, lambda rows: rows.head(0))


def test_a_missing_column_is_named(zoo: Zoo) -> None:
    with pytest.raises(InputError, match=r"lacks columns in .*manifest.parquet: got \['sha256', 'split'\]"):
        changed(zoo, lambda rows: rows.drop(columns=["split", "sha256"]))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"id,task\n"])
def test_a_corrupt_manifest_is_refused(content: bytes, zoo: Zoo) -> None:
    (zoo.folder / MANIFEST).write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read the manifest in .*manifest.parquet") as caught:
        Zoo.open(zoo.folder)
    assert "\n" not in str(caught.value)


def test_a_truncated_manifest_is_refused(zoo: Zoo) -> None:
    path = zoo.folder / MANIFEST
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="cannot read the manifest"):
        Zoo.open(zoo.folder)


def test_a_refused_manifest_leaves_no_trace(zoo: Zoo) -> None:
    class Unwritable:
        def to_parquet(self, path: Path, index: bool) -> None:
            path.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_manifest(zoo.folder, Unwritable())  # type: ignore[arg-type]
    assert Zoo.open(zoo.folder).hash == zoo.hash
    assert sorted(path.name for path in zoo.folder.iterdir()) == [MANIFEST, "weights"]


def test_the_hash_says_what_the_models_are_and_not_where_they_lie(zoo: Zoo) -> None:
    before = zoo.hash
    assert changed(zoo, lambda rows: rows.sample(frac=1, random_state=0)).hash == before
    assert changed(zoo, lambda rows: rows.assign(weights_file="elsewhere")).hash == before
    for column, value in (("sha256", "0"), ("task", "digits"), ("split", "val"), ("status", "diverged"), ("id", "new")):
        assert (
            changed(zoo, lambda rows, c=column, v=value: rows.assign(**{c: rows[c].where(rows.index > 0, v)})).hash
            != before
        )


# --- records


@pytest.mark.parametrize(("key", "value"), [("split", "dev"), ("status", "fine")])
def test_a_record_knows_its_words(key: str, value: str) -> None:
    with pytest.raises(InputError, match=f"unknown {key} in model a-0-1: got {value}, expected"):
        replace(model("a", 0, 1, "f", 0), **{key: value})


def test_a_row_with_other_columns_is_no_record() -> None:
    row = asdict(model("a", 0, 1, "f", 0))
    assert record(row) == model("a", 0, 1, "f", 0)
    with pytest.raises(InputError, match=r"got \['colour', 'seed'\]"):
        record({name: value for name, value in row.items() if name != "seed"} | {"colour": "red"})


# --- hashes of tensors


def test_a_hash_changes_with_type_shape_name_and_any_bit() -> None:
    base = {"a": torch.zeros(2, 3), "b": torch.ones(4)}
    others = [
        base | {"b": torch.ones(4, dtype=torch.float64)},
        base | {"b": torch.ones(2, 2)},
        base | {"a": torch.zeros(3, 2)},
        {"a": base["a"], "c": base["b"]},
        {"a": base["a"]},
        base | {"b": torch.tensor([1, 1, 1, 1 + torch.finfo(torch.float32).eps])},
        base | {"a": -base["a"]},
        base | {"c": torch.zeros(0)},
        {"b": torch.zeros(2, 3), "a": torch.ones(4)},
        {name: value.view(torch.int32) for name, value in base.items()},
    ]
    hashes = [hashed(tensors) for tensors in (base, *others)]
    assert len(set(hashes)) == len(hashes)


def test_each_of_a_stack_has_the_hash_of_its_names_types_shapes_and_bytes() -> None:
    stacked = {"b": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "a": torch.tensor([5, 6])}
    for place, found in enumerate(tensor_hashes(stacked)):
        parts = (b'["a", "torch.int64", []]', stacked["a"][place].numpy().tobytes(),
                 b'["b", "torch.float32", [2]]', stacked["b"][place].numpy().tobytes())  # fmt: skip
        assert found == hashlib.sha256(b"".join(parts)).hexdigest()


def test_hashes_of_a_stack_do_not_depend_on_its_layout() -> None:
    rows = torch.arange(24.0).view(4, 6)
    assert tensor_hashes({"a": rows.T}) == tensor_hashes({"a": rows.T.contiguous()})


def test_a_hash_does_not_depend_on_order_and_layout() -> None:
    base = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3.0)}
    expected = hashed(base)
    assert hashed(dict(reversed(base.items()))) == expected
    assert hashed(base | {"a": base["a"].T.contiguous().T}) == expected
    assert hashed(base | {"a": torch.arange(12.0).view(4, 3)[:2]}) == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_tensors_of_any_type_are_hashed(dtype: torch.dtype) -> None:
    assert hashed({"a": torch.ones(3, dtype=dtype)}) != hashed({"a": torch.ones(3)})
