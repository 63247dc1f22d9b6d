"""`peace embed embed.files=FOLDER`: one vector for every checkpoint in a folder, whatever its format and type."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from peace import provenance
from peace.atomic import replacing
from peace.config import fingerprint, run_directory
from peace.embeddings.table import EmbeddingTable
from peace.errors import InputError, PeaceError
from peace.exclusive import exclusive
from peace.models.collecting import Collected, embed_collection
from peace.models.saving import load_producer, saved_embedder
from peace.tracking import artifacts
from peace.tracking.run import Tracking
from peace.zoo.collection import TEXTS, collection

FILES, TABLE, BROKEN = "files", "embeddings.safetensors", "broken.json"

_MOST = 10


def files_directory(config: Mapping[str, Any], files: str | Sequence[str]) -> Path:
    """Returns the folder in a run directory where all that is made of some files lies."""
    return run_directory(config) / FILES / fingerprint(files)


def embed_files(config: Mapping[str, Any], files: str | Sequence[str], workers: int, dry_run: bool = False) -> None:
    """Embeds checkpoints with the trained embedder of the config's run, and writes their table.

    Args:
        config: The whole config.
        files: A folder, a pattern, a file or a list of such.
        workers: How many checkpoints are read at a time.
        dry_run: Whether only to say what would be embedded.

    Raises:
        InputError: There are none, or the config's producer is not a trained embedder.
        PeaceError: Some are broken; the table of the others is written, and none where there are no others.
    """
    if config["producer"]["name"] != "trained":
        raise InputError("only a trained embedder reads files", where="'producer'", got=config["producer"]["name"],
                         expected="trained")  # fmt: skip
    entries, started = collection(files), time.monotonic()
    if dry_run:
        print(f"would embed {len(entries)} checkpoints, {sum(entry.size for entry in entries) / 1e6:.1f} MB")
        return
    embedder, identity = load_producer(saved_embedder(run_directory(config)))
    where = files_directory(config, files)
    with exclusive(where), Tracking(config, "embed", where) as tracked:
        tracked.used(artifacts.embedder(run_directory(config), config["experiment"], hash=identity))
        found = embed_collection(embedder, identity, entries, where / "vectors", workers)
        with replacing(where / BROKEN) as path:
            path.write_text(json.dumps(found.broken, indent=1) + "\n")
        if found.done:
            _table(found, {"producer": "trained", "embedder": identity, "files": files}).save(where / TABLE)
            tracked.made(artifacts.embeddings(where, config["experiment"], where / TABLE))
        else:
            # That of an earlier run would not be of these files.
            (where / TABLE).unlink(missing_ok=True)
        seconds = time.monotonic() - started
        tracked.summarise({"models": len(found.done), "broken": len(found.broken), "seconds": seconds})
    print(f"{len(found.done)} of {len(entries)} checkpoints by {config['encoder']['name']} in {seconds:.1f} s: {where}")
    if found.broken:
        print("\n".join(f"broken: {name}: {why}" for name, why in found.broken.items()))
        raise PeaceError(_summary(found.broken, len(entries), where / BROKEN))


def _table(found: Collected, made_by: Mapping[str, Any]) -> EmbeddingTable:
    rows = []
    for entry, made in found.done:
        said = {key: made.said.get(key) for key in TEXTS} | entry.about
        row = {"id": entry.id, **said, "run_id": said["run_id"] or entry.id}
        rows.append({**row, "n_params": made.n_params, "layers": made.layers, "bytes": entry.size})
    vectors = torch.stack([made.vector for _, made in found.done])
    return EmbeddingTable.of(vectors, pd.DataFrame(rows), {**made_by, **provenance.stamp()})


def _summary(broken: Mapping[str, str], total: int, path: Path) -> str:
    names = ", ".join(list(broken)[:_MOST]) + (f" and {len(broken) - _MOST} more" if len(broken) > _MOST else "")
    rest = "the others are embedded" if len(broken) < total else "none is embedded"
    return f"{len(broken)} of {total} checkpoints are broken: {names}; why stands in {path}; {rest}"
