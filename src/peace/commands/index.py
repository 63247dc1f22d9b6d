"""`peace index`: a FAISS index of a run's embedding table."""

from collections.abc import Mapping
from typing import Any

from peace.commands.embed import TABLE
from peace.config import run_directory
from peace.embeddings.table import EmbeddingTable
from peace.index.faiss_index import FaissIndex
from peace.models.saving import load_producer


def run(config: Mapping[str, Any], dry_run: bool = False) -> None:
    """Indexes the embeddings of the run that a config describes.

    Raises:
        InputError: There is no embedding table, or it was made by another embedder than the run's.
    """
    where = run_directory(config)
    if dry_run:
        print(f"would index {where / TABLE}")
        return
    index = FaissIndex.build(EmbeddingTable.load(where / TABLE))
    index.require_embedder(load_producer(where / "embedder")[1])
    index.save(where / "index")
    print(f"index of {len(index)} models: {where / 'index'}")
    print(f"search it: peace search MODEL.safetensors --index {where / 'index'}")
