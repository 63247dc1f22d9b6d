"""`peace search MODEL --index INDEX`: the models of an index that are nearest to a file of weights."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from peace.errors import InputError
from peace.graph.stack import Stack
from peace.index.faiss_index import FaissIndex
from peace.models.loading import single
from peace.models.saving import load_producer
from peace.models.streaming import embed_checkpoint
from peace.zoo.checkpoint import open_checkpoint

_SHOWN = ("id", "task", "architecture", "split", "test_accuracy")


def run(model: str, index: str, embedder: str | None, architecture: str | None, top: int, as_json: bool) -> None:
    """Prints the nearest models.

    Args:
        model: A file of weights, an index of shards, or a folder of one checkpoint.
        index: An index's folder.
        embedder: The folder of the embedder that the index was made with; beside or above the index, if not given.
        architecture: Name of the model's architecture among those of the index; needed only where tensors fit several.
        top: How many models to print.
        as_json: Whether to print JSON.

    Raises:
        InputError: A file cannot be read, the embedder is not the index's, or the tensors fit no architecture of it.
    """
    searched = FaissIndex.load(index)
    producer, identity = load_producer(Path(embedder) if embedder else _embedder(Path(index)))
    searched.require_embedder(identity)
    vectors, readings = _vectors(producer, model, searched.rows, architecture)
    if not vectors.isfinite().all():
        raise InputError("the embedding is not finite", where=model, do="check the model's weights")
    similarities, places = searched.search(vectors, top)
    best = int(similarities[:, 0].argmax())
    shown = [name for name in _SHOWN if name in searched.rows and searched.rows[name].notna().any()]
    found = searched.rows.iloc[places[best].tolist()][shown]
    found = found.assign(similarity=similarities[best].tolist()).reset_index(drop=True)
    _show(found, readings[best], readings, as_json)


def _embedder(index: Path) -> Path:
    """Where the embedder of an index lies: beside it, or at the top of the run directory that it is in."""
    folders = [folder / "embedder" for folder in index.absolute().parents[:3]]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _vectors(producer: nn.Module, model: str, rows: pd.DataFrame, wanted: str | None) -> tuple[Tensor, list[str]]:
    """A vector for each way to read the checkpoint, and what these ways are called. Shape: [ways, D]."""
    checkpoint = open_checkpoint(model)
    if "architecture_config" not in rows:
        if wanted is not None:
            raise InputError("an index of files knows no architectures", got=f"--architecture {wanted}",
                             expected="none")  # fmt: skip
        return embed_checkpoint(producer, checkpoint).vector[None], ["checkpoint"]
    readings = _readings(checkpoint.weights(), checkpoint.metadata, rows, wanted, model)
    with torch.no_grad():
        return torch.cat([producer.embed([stack]) for stack in readings.values()]), list(readings)


def _readings(
    tensors: dict[str, Tensor], metadata: Mapping[str, str], rows: pd.DataFrame, wanted: str | None, model: str
) -> dict[str, Stack]:
    """The architectures that the file may be of, by name, with its weights read as each.

    The file's own metadata decides; without it, all architectures of the index whose tensors have the same names and
    shapes. Several remain where they differ in activations only, of which weights say nothing.
    """
    known = dict(zip(rows["architecture"], rows["architecture_config"], strict=True))
    if wanted is not None and wanted not in known:
        raise InputError(f"no architecture '{wanted}' in the index", expected=f"one of {', '.join(sorted(known))}")
    if wanted is None and "architecture_config" in metadata:
        known = {metadata.get("architecture", "of the file"): metadata["architecture_config"]}
    fitting = {}
    for name, config in known.items():
        if wanted in (None, name):
            # What a file says of itself may be anything: no JSON, no architecture, sizes that no tensor can have.
            with suppress(InputError, ValueError, TypeError, RuntimeError, ArithmeticError):
                fitting[name] = single(config, tensors)
    if not fitting:
        raise InputError("the tensors fit no architecture of the index", where=model,
                         got=", ".join(f"{name} {list(tensor.shape)}" for name, tensor in list(tensors.items())[:4]),
                         expected=" or ".join(sorted(known)))  # fmt: skip
    return fitting


def _show(found: pd.DataFrame, read_as: str, readings: list[str], as_json: bool) -> None:
    if as_json:
        # What no manifest says of a file is null, for which pandas has NaN.
        rows = found.astype(object).where(found.notna(), None).to_dict("records")
        print(json.dumps({"read_as": read_as, "readings": readings, "neighbours": rows}, indent=1))
        return
    if len(readings) > 1:
        print(f"the tensors fit {' and '.join(readings)}; read as {read_as}, which is nearest to the index "
              "(--architecture decides)")  # fmt: skip
    print(found.to_string(float_format="%.4f"))
