"""`peace index`: a FAISS index of a run's embedding table."""

from collections.abc import Mapping
from typing import Any

from peace.commands.embed import COPIES, TABLE, EmbedConfig
from peace.commands.embed_files import files_directory
from peace.config import run_directory
from peace.embeddings.table import EmbeddingTable
from peace.index.faiss_index import FaissIndex
from peace.index.kinds import KINDS
from peace.models.saving import load_producer
from peace.registry import arguments
from peace.tracking import artifacts
from peace.tracking.run import Tracking


def run(config: Mapping[str, Any], dry_run: bool = False) -> None:
    """Indexes the embeddings of the run that a config describes, or those of files that its embedder embedded.

    Raises:
        InputError: There is no embedding table, or it was made by another embedder than the run's.
    """
    files = arguments(EmbedConfig, config["embed"], "embed").get("files")
    run_folder, experiment = run_directory(config), config["experiment"]
    where = files_directory(config, files) if files else run_folder
    KINDS.check(config["index"])
    if dry_run:
        print(f"would index {where / TABLE}")
        return
    table = EmbeddingTable.load(where / TABLE)
    index = FaissIndex.build(table, config["index"])
    index.require_embedder(load_producer(run_folder / "embedder")[1])
    with Tracking(config, "index", where) as tracked:
        index.save(where / "index")
        tracked.describe(zoo_hash=table.provenance.get("zoo"))
        tracked.summarise({"models": len(index), "recall@10": index.recall})
        made = (path for path in (where / TABLE, where / COPIES) if path.is_file())
        tracked.used(artifacts.embeddings(where, experiment, *made))
        tracked.made(artifacts.index(where, experiment, table=table.hash))
    searched = f"{config['index']['name']}, recall@10 {index.recall:.3f}"
    print(f"index of {len(index)} models, {searched}: {where / 'index'}")
    print(f"search it: peace search MODEL.safetensors --index {where / 'index'}")
