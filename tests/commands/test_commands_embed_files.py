"""`peace embed embed.files=...`, an index of what comes of it, and a search in that, as a person types them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from commands_home import EXPERIMENT, Home, Peace, verb
from safetensors.torch import save_file

from peace.embeddings.table import EmbeddingTable
from peace.models.saving import load_producer
from peace.models.streaming import embed_checkpoint
from peace.zoo.checkpoint import open_checkpoint

LAYER_WISE = ("encoder=layer_gnn", "graph=frobenius", "encoder.hidden_dim=8")


@pytest.fixture
def models(copied: Home, peace: Peace) -> Path:
    """Four files of weights, one with a line in the manifest, one in half precision and one that is cut off."""
    assert peace(*verb("pretrain", *LAYER_WISE)).code == 0
    folder = copied.folder / "models"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for name in ("a", "b", "c"):
        sizes = torch.randint(3, 30, (3,), generator=generator).tolist()
        tensors = {"0.weight": torch.randn(sizes[:2], generator=generator), "0.bias": torch.ones(sizes[0])}
        save_file(
            tensors | {"1.weight": torch.randn(sizes[2], sizes[0], generator=generator)}, folder / f"{name}.safetensors"
        )
    shutil.copy(folder / "a.safetensors", folder / "cut.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "a.safetensors").read_bytes()[:-5])
    (folder / "manifest.jsonl").write_text('{"file": "b.safetensors", "task": "birds", "architecture": "two layers"}\n')
    return folder


def test_files_are_embedded_indexed_and_found(copied: Home, models: Path, peace: Peace) -> None:
    words = verb("embed", *LAYER_WISE, "embed.files=models")
    assert "would embed 4 checkpoints" in peace(*words, "--dry-run").out
    finished = peace(*words)
    assert finished.code == 1 and "3 of 4 checkpoints by layer_gnn" in finished.out
    assert "1 of 4 checkpoints are broken: cut.safetensors; why stands in" in finished.err
    (where,) = copied.folder.glob(f"runs/{EXPERIMENT}/*/seed0/files/*")
    assert list(json.loads((where / "broken.json").read_text())) == ["cut.safetensors"]

    table = EmbeddingTable.load(where / "embeddings.safetensors")
    assert table.rows["id"].tolist() == [f"{name}.safetensors" for name in "abc"]
    assert table.rows["task"].dropna().tolist() == ["birds"] and (table.rows["layers"] == 2).all()
    producer, identity = load_producer(where.parents[1] / "embedder")
    assert table.provenance["embedder"] == identity
    expected = embed_checkpoint(producer, open_checkpoint(models / "c.safetensors")).vector
    assert torch.allclose(table.vectors[2], torch.nn.functional.normalize(expected, dim=0), atol=1e-6)

    (models / "cut.safetensors").unlink()
    assert peace(*words).code == 0
    indexed = peace("index", *words[1:], "index=hnsw")
    assert indexed.code == 0 and "index of 3 models, hnsw, recall@10 1.000" in indexed.out
    half = models.parent / "half.safetensors"
    tensors = {
        name: open_checkpoint(models / "b.safetensors").weights()[name].half() for name in ("0.weight", "1.weight")
    }
    save_file(tensors | {"0.bias": torch.ones(len(tensors["0.weight"]))}, half)
    told = peace("search", half, "--index", where / "index", "--top", "3", "--json").out
    assert "NaN" not in told
    found = json.loads(told)
    assert found["neighbours"][0]["id"] == "b.safetensors" and found["readings"] == ["checkpoint"]
    assert found["neighbours"][0]["similarity"] > 0.9999
    refused = peace("search", half, "--index", where / "index", "--architecture", "mlp")
    assert refused.code == 2 and "knows no architectures" in refused.err


def test_where_all_are_broken_no_earlier_table_is_left(copied: Home, models: Path, peace: Peace) -> None:
    words = verb("embed", *LAYER_WISE, "embed.files=models")
    assert "why stands in" in (told := peace(*words).err) and "the others are embedded" in told
    for path in models.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-5])
    finished = peace(*words)
    assert finished.code == 1 and "4 of 4 checkpoints are broken" in finished.err
    assert "none is embedded" in finished.err and "the others" not in finished.err
    indexed = peace("index", *words[1:])
    assert indexed.code == 2 and "embeddings.safetensors" in indexed.err


def test_bad_words_are_refused(copied: Home, peace: Peace) -> None:
    for more, sentence in (
        (("embed.files=nowhere",), "no checkpoint in 'nowhere'"),
        (("embed.files=models", "embed.shard=1/2"), "files are embedded whole and alone"),
        (("embed.files=models", "embed.others=[demo]"), "files are embedded whole and alone"),
        (("embed.files=models", "producer=flat"), "only a trained embedder reads files"),
        (("embed.workers=0",), "wrong type in embed, key 'workers'"),
    ):
        finished = peace(*verb("embed", *more))
        assert finished.code == 2 and sentence in finished.err, more


def test_copies_may_be_left_out(copied: Home, peace: Peace) -> None:
    before = EmbeddingTable.load(copied.run() / "embeddings.safetensors")
    assert peace(*verb("embed", "embed.copies=false")).code == 0
    assert EmbeddingTable.load(copied.run() / "embeddings.safetensors").hash == before.hash
    assert not (copied.run() / "copies.safetensors").exists()
    finished = peace(*verb("evaluate"))
    assert finished.code == 2 and "copies.safetensors" in finished.err
    assert peace(*verb("index")).code == 0
