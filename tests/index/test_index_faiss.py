import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from pandas import DataFrame

from peace.embeddings.table import EmbeddingTable
from peace.errors import InputError
from peace.index import faiss_index
from peace.index.faiss_index import FaissIndex

EMBEDDER = "0123456789ab" + "c" * 52


def table_of(count: int = 30, dimension: int = 6, seed: int = 0) -> EmbeddingTable:
    ids = [f"m{i}" for i in range(count)]
    rows = DataFrame({"id": ids, "run_id": ids, "task": "t", "architecture": "mlp", "split": "test"})
    vectors = torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed))
    return EmbeddingTable.of(vectors, rows, {"embedder": EMBEDDER})


def test_search_is_exact() -> None:
    table = table_of()
    queries = torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    similarities, positions = FaissIndex.build(table).search(queries * 10, 5)
    expected = torch.nn.functional.cosine_similarity(queries[:, None], table.vectors[None], dim=2).topk(5)
    assert torch.equal(positions, expected.indices)
    torch.testing.assert_close(similarities, expected.values)
    assert positions.dtype == torch.int64


def test_every_model_finds_itself_first() -> None:
    table = table_of()
    similarities, positions = FaissIndex.build(table).search(table.vectors, 1)
    assert positions[:, 0].tolist() == list(range(30))
    torch.testing.assert_close(similarities, torch.ones(30, 1))


def test_no_more_neighbours_come_than_there_are() -> None:
    similarities, positions = FaissIndex.build(table_of(3)).search(torch.ones(2, 6), 10)
    assert similarities.shape == (2, 3)
    assert positions.sort(dim=1).values.tolist() == [[0, 1, 2]] * 2
    assert FaissIndex.build(table_of(3)).search(torch.ones(0, 6), 2)[1].shape == (0, 2)


def test_bad_queries_are_refused() -> None:
    index = FaissIndex.build(table_of())
    with pytest.raises(InputError, match=r"another dimension.*got \[2, 5\], expected \[queries, 6\]"):
        index.search(torch.ones(2, 5), 1)
    with pytest.raises(InputError, match="another dimension"):
        index.search(torch.ones(6), 1)
    with pytest.raises(InputError, match="'query 1' is not finite"):
        index.search(torch.tensor([[1.0] * 6, [float("nan")] * 6]), 1)
    with pytest.raises(InputError, match="too few neighbours: got 0"):
        index.search(torch.ones(1, 6), 0)


def test_tables_that_cannot_be_indexed_are_refused() -> None:
    with pytest.raises(InputError, match="no models to index"):
        FaissIndex.build(table_of().select([]))
    table = table_of()
    with pytest.raises(InputError, match="no 'embedder' in the provenance"):
        FaissIndex.build(replace(table, provenance={}))


def test_a_saved_index_comes_back_equal(tmp_path: Path) -> None:
    table = table_of()
    index = FaissIndex.build(table)
    index.save(tmp_path / "deep" / "index")
    loaded = FaissIndex.load(tmp_path / "deep" / "index")
    queries = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    for found, expected in zip(loaded.search(queries, 9), index.search(queries, 9), strict=True):
        assert torch.equal(found, expected)
    pd.testing.assert_frame_equal(loaded.rows, table.rows)
    assert (loaded.table_hash, loaded.embedder, loaded.dimension, len(loaded)) == (table.hash, EMBEDDER, 6, 30)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["index"]
    about = json.loads((tmp_path / "deep" / "index" / "index.json").read_text())
    assert {key: about[key] for key in ("dimension", "count", "table", "embedder")} == {
        "dimension": 6,
        "count": 30,
        "table": table.hash,
        "embedder": EMBEDDER,
    }


def test_an_index_of_another_encoder_is_refused() -> None:
    index = FaissIndex.build(table_of())
    index.require_embedder(EMBEDDER)
    with pytest.raises(
        InputError, match=r"^index made with another encoder: got 0123456789ab, expected ffffffffffff; .*again"
    ):
        index.require_embedder("f" * 64)


def test_an_existing_index_is_replaced(tmp_path: Path) -> None:
    FaissIndex.build(table_of(30)).save(tmp_path / "index")
    FaissIndex.build(table_of(5)).save(tmp_path / "index")
    assert len(FaissIndex.load(tmp_path / "index")) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


@pytest.mark.parametrize("step", ["file_hash", "json"])
def test_an_interrupted_write_keeps_the_old_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    FaissIndex.build(table_of(30)).save(tmp_path / "index")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*((faiss_index, step) if step == "file_hash" else (faiss_index.json, "dumps")), interrupt)
        with pytest.raises(KeyboardInterrupt):
            FaissIndex.build(table_of(5)).save(tmp_path / "index")
        with pytest.raises(KeyboardInterrupt):
            FaissIndex.build(table_of(5)).save(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    assert len(FaissIndex.load(tmp_path / "index")) == 30


def test_an_interruption_between_the_two_renames_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FaissIndex.build(table_of(30)).save(tmp_path / "index")
    rename = Path.rename

    def first_only(self: Path, target: Path) -> Path:
        if target == tmp_path / "index":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", first_only)
        with pytest.raises(KeyboardInterrupt):
            FaissIndex.build(table_of(5)).save(tmp_path / "index")
    assert len(FaissIndex.load(tmp_path / "index")) == 30
    FaissIndex.build(table_of(7)).save(tmp_path / "index")
    assert len(FaissIndex.load(tmp_path / "index")) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_folders_with_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"holds other files.*got thesis\.tex"):
        FaissIndex.build(table_of()).save(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        FaissIndex.build(table_of()).save(tmp_path / "thesis.tex")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^there is no index in .*; check the path"):
        FaissIndex.load(tmp_path / "index")


@pytest.mark.parametrize("name", ["index.faiss", "rows.parquet", "index.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty"])
def test_a_damaged_folder_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    FaissIndex.build(table_of()).save(tmp_path / "index")
    path = tmp_path / "index" / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    with pytest.raises(InputError, match=r"^damaged index in ") as caught:
        FaissIndex.load(tmp_path / "index")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"dimension": 5}, {"count": 1}, {"sha256": {}}, {"sha256": 3}])
def test_a_description_of_another_index_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    FaissIndex.build(table_of()).save(tmp_path / "index")
    path = tmp_path / "index" / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=r"^damaged index in "):
        FaissIndex.load(tmp_path / "index")
    path.write_text("[]")
    with pytest.raises(InputError, match=r"^damaged index in "):
        FaissIndex.load(tmp_path / "index")
