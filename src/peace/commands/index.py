"""`peace index`: a FAISS index of a run's embedding table."""

from collections.abc import Mapping
from typing import Any

from peace.commands.embed import TABLE, made_embeddings
from peace.config import run_directory
from peace.embeddings.table import EmbeddingTable
from peace.index.faiss_index import FaissIndex
from peace.models.saving import load_producer
from peace.tracking import artifacts
from peace.tracking.run import Tracking


def run(config: Mapping[str, Any], dry_run: bool = False) -> None:
    """Indexes the embeddings of the run that a config describes.

    Raises:
        InputError: There is no embedding table, or it was made by another embedder than the run's.
    """
    where = run_directory(config)
    if dry_run:
        print(f"would index {where / TABLE}")
        return
    table = EmbeddingTable.load(where / TABLE)
    index = FaissIndex.build(table)
    index.require_embedder(load_producer(where / "embedder")[1])
    with Tracking(config, "index", where) as tracked:
        index.save(where / "index")
        tracked.describe(zoo_hash=table.provenance.get("zoo"))
        tracked.summarise({"models": len(index)})
        tracked.used(made_embeddings(where, config["producer"]["name"]))
        tracked.made(artifacts.index(where, table=table.hash))
    print(f"index of {len(index)} models: {where / 'index'}")
    print(f"search it: peace search MODEL.safetensors --index {where / 'index'}")
