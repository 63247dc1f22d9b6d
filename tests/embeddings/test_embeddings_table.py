import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pandas import DataFrame
from safetensors.torch import save_file

from peace.embeddings import storage
from peace.embeddings.table import EmbeddingTable
from peace.errors import InputError

LENGTHS = torch.ones(2, dtype=torch.float64)


def rows_of(count: int) -> DataFrame:
    ids = [f"m{i}" for i in range(count)]
    return DataFrame(
        {
            "id": ids,
            "run_id": [f"r{i // 2}" for i in range(count)],
            "task": [f"t{i % 3}" for i in range(count)],
            "architecture": "mlp",
            "split": "test",
        }
    )


def table_of(count: int = 6, dimension: int = 4) -> EmbeddingTable:
    vectors = torch.randn(count, dimension, generator=torch.Generator().manual_seed(0))
    return EmbeddingTable.of(vectors, rows_of(count), {"embedder": "a" * 64, "note": "é"})


def test_rows_are_scaled_to_length_one() -> None:
    table = EmbeddingTable.of(torch.tensor([[3.0, 4.0], [0.0, -2.0]], dtype=torch.float64), rows_of(2), {})
    assert table.vectors.dtype == torch.float32
    assert table.vectors.tolist() == [pytest.approx([0.6, 0.8]), [0.0, -1.0]]


def test_vectors_come_back_as_they_were() -> None:
    vectors = torch.randn(6, 4, generator=torch.Generator().manual_seed(3)) * torch.logspace(-20, 20, 6)[:, None]
    table = EmbeddingTable.of(vectors, rows_of(6), {})
    assert table.norms.tolist() == pytest.approx(np.linalg.norm(vectors.double().numpy(), axis=1).tolist())
    torch.testing.assert_close(table.raw, vectors, rtol=1e-6, atol=0)
    torch.testing.assert_close(table.select([4, 1]).raw, vectors[[4, 1]], rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e30, 3e38])
def test_extreme_lengths_are_scaled_without_overflow_or_underflow(scale: float) -> None:
    table = EmbeddingTable.of(torch.tensor([[scale, scale]]), rows_of(1), {})
    assert table.vectors[0].tolist() == pytest.approx([math.sqrt(0.5)] * 2)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_first_model_that_is_not_finite_is_named(bad: float) -> None:
    vectors = torch.ones(4, 3)
    vectors[2, 1] = vectors[3, 0] = bad
    with pytest.raises(InputError, match=r"^the vector of 'm2' is not finite; [^.]+\.$"):
        EmbeddingTable.of(vectors, rows_of(4), {})


def test_a_zero_vector_is_refused_by_name() -> None:
    vectors = torch.ones(3, 3)
    vectors[1] = 0
    with pytest.raises(InputError, match="'m1' is zero"):
        EmbeddingTable.of(vectors, rows_of(3), {})


def test_rows_must_fit_the_vectors() -> None:
    with pytest.raises(InputError, match=r"wrong number of rows.*got 2, expected 3"):
        EmbeddingTable.of(torch.ones(3, 2), rows_of(2), {})
    with pytest.raises(InputError, match=r"wrong vectors.*got \[3\]"):
        EmbeddingTable.of(torch.ones(3), rows_of(3), {})


@pytest.mark.parametrize("column", ["id", "run_id", "task", "architecture", "split"])
def test_every_column_is_needed(column: str) -> None:
    with pytest.raises(InputError, match=f"missing column '{column}'"):
        EmbeddingTable.of(torch.ones(2, 2), rows_of(2).drop(columns=column), {})


def test_ids_must_be_present_and_differ() -> None:
    with pytest.raises(InputError, match="duplicate id 'm0'"):
        EmbeddingTable.of(torch.ones(2, 2), rows_of(2).assign(id="m0"), {})
    with pytest.raises(InputError, match=r"has no id.*row 1"):
        EmbeddingTable.of(torch.ones(2, 2), rows_of(2).assign(id=["m0", None]), {})


def test_columns_of_mixed_types_are_refused() -> None:
    with pytest.raises(InputError, match="mixes types"):
        EmbeddingTable.of(torch.ones(2, 2), rows_of(2).assign(extra=["word", 3]), {})


def test_the_constructor_refuses_vectors_of_another_length_or_dtype() -> None:
    with pytest.raises(InputError, match="'m1' has not length 1"):
        EmbeddingTable(torch.tensor([[1.0, 0.0], [2.0, 0.0]]), rows_of(2), {}, LENGTHS)
    with pytest.raises(InputError, match=r"got torch\.float64"):
        EmbeddingTable(torch.eye(2, dtype=torch.float64), rows_of(2), {}, LENGTHS)


@pytest.mark.parametrize(
    ("norms", "message"),
    [
        (torch.ones(2), r"wrong norms.*got torch\.float32 \[2\], expected torch\.float64 \[models\]"),
        (torch.ones(3, dtype=torch.float64), r"wrong norms.*got torch\.float64 \[3\]"),
        (torch.tensor([1.0, 0.0], dtype=torch.float64), "not a positive number"),
        (torch.tensor([1.0, math.nan], dtype=torch.float64), "not a positive number"),
    ],
)
def test_the_constructor_refuses_lengths_that_are_none(norms: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        EmbeddingTable(torch.eye(2), rows_of(2), {}, norms)


def test_a_saved_table_comes_back_equal(tmp_path: Path) -> None:
    rows = rows_of(3).assign(
        epoch=[1, None, 3],
        accuracy=[0.1, float("nan"), 1 / 3],
        widths=[[1, 2], [3], []],
        note=["a", None, "ü"],
        ok=True,
    )
    table = EmbeddingTable.of(torch.eye(3), rows, {"embedder": "f" * 64, "nested": {"seconds": 1.5}})
    table.save(tmp_path / "folder" / "table.safetensors")
    loaded = EmbeddingTable.load(tmp_path / "folder" / "table.safetensors")
    assert torch.equal(loaded.vectors, table.vectors) and torch.equal(loaded.norms, table.norms)
    pd.testing.assert_frame_equal(loaded.rows, table.rows)
    assert loaded.provenance == table.provenance
    assert loaded.hash == table.hash
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["table.safetensors"]


def test_the_hash_covers_vectors_and_rows_but_not_provenance() -> None:
    table = table_of()
    assert re.fullmatch("[0-9a-f]{64}", table.hash)
    assert replace(table, provenance={}).hash == table.hash
    assert replace(table, vectors=table.vectors.flip(0)).hash != table.hash
    assert replace(table, norms=2 * table.norms).hash != table.hash
    assert replace(table, rows=table.rows.assign(task="t0")).hash != table.hash
    renamed = table.rows.rename(columns={"split": "split "}).assign(split="test")
    assert replace(table, rows=renamed).hash != table.hash


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ([4, 0], [4, 0]),
        ([], []),
        (torch.tensor([5, 1]), [5, 1]),
        (np.array([True, False, False, True, False, False]), [0, 3]),
        (torch.tensor([True, False, False, False, False, True]), [0, 5]),
        (pd.Series([False, True, False, False, False, False], index=list("abcdef")), [1]),
    ],
)
def test_select_takes_masks_and_positions(selection: object, expected: list[int]) -> None:
    table = table_of(6)
    chosen = table.select(selection)
    assert chosen.rows["id"].tolist() == [f"m{i}" for i in expected]
    assert torch.equal(chosen.vectors, table.vectors[expected])
    assert chosen.rows.index.tolist() == list(range(len(expected)))
    assert len(chosen) == len(expected)
    assert chosen.provenance == table.provenance


def test_select_refuses_a_mask_of_another_length() -> None:
    with pytest.raises(IndexError):
        table_of(6).select(np.array([True, False]))


def test_an_empty_selection_survives_storage(tmp_path: Path) -> None:
    table_of(6).select([]).save(tmp_path / "table.safetensors")
    assert EmbeddingTable.load(tmp_path / "table.safetensors").vectors.shape == (0, 4)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^there is no embedding table in .*; check the path"):
        EmbeddingTable.load(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="there is no embedding table"):
        EmbeddingTable.load(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 40, 300, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "table.safetensors"
    table_of().save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"^damaged embedding table in ") as caught:
        EmbeddingTable.load(path)
    assert "\n" not in str(caught.value)


def test_other_safetensors_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"vectors": torch.eye(2)}, path)
    with pytest.raises(InputError, match=r"wrong kind of file.*got other tensors, expected embedding table"):
        EmbeddingTable.load(path)


def test_damage_inside_a_whole_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.safetensors"
    kind = {"peace.kind": "embedding table", "provenance": "{}"}
    rows = torch.zeros(9, dtype=torch.uint8)
    tensors = {"vectors": torch.eye(2), "norms": LENGTHS}
    save_file({"vectors": torch.eye(2)}, path, metadata=kind)
    with pytest.raises(InputError, match=r"damaged embedding table.*norms.*make it again"):
        EmbeddingTable.load(path)
    save_file(tensors, path, metadata=kind)
    with pytest.raises(InputError, match=r"damaged embedding table.*rows"):
        EmbeddingTable.load(path)
    save_file(tensors | {"rows": rows}, path, metadata=kind)
    with pytest.raises(InputError, match="damaged embedding table"):
        EmbeddingTable.load(path)
    storage.write(path, "embedding table", tensors | {"vectors": torch.eye(2) * 2}, {"rows": rows_of(2)}, {})
    with pytest.raises(InputError, match=r"damaged embedding table.*'m0' has not length 1"):
        EmbeddingTable.load(path)
    storage.write(path, "embedding table", tensors, {"rows": rows_of(2)}, [1])
    with pytest.raises(InputError, match="damaged embedding table"):
        EmbeddingTable.load(path)


def test_an_interrupted_write_keeps_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.safetensors"
    table_of().save(path)
    before = path.read_bytes()

    def half(_tensors: object, target: Path, **_: object) -> None:
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        table_of(3).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
