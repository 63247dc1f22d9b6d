"""Producers of embeddings on disk: `embedder.json` (what it is) and `embedder.safetensors` (its tensors), no pickle."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from peace.atomic import replacing
from peace.errors import InputError
from peace.models.baselines import BASELINES
from peace.models.embedder import NODES, build_embedder

CONFIG, TENSORS = "embedder.json", "embedder.safetensors"


def build_producer(config: Mapping[str, Any]) -> nn.Module:
    """Returns the fresh producer of a config: the embedder if `producer.name` is `trained`, else that baseline."""
    if config["producer"]["name"] == "trained":
        return build_embedder(config)
    return BASELINES.build(config["producer"])


def save_producer(folder: Path, producer: nn.Module, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    """Writes a producer and returns its hash.

    Args:
        folder: Where to.
        producer: With its tensors as they are to be used.
        config: The config that it was built from; only the nodes that shape it are kept.
        provenance: What it came from; not part of the hash.
    """
    nodes = ("producer", *(NODES if config["producer"]["name"] == "trained" else ()))
    kept = {name: config[name] for name in nodes}
    with replacing(folder / TENSORS) as path:
        save_file({name: tensor.contiguous().cpu() for name, tensor in producer.state_dict().items()}, path)
    identity = producer_hash(producer, kept)
    with replacing(folder / CONFIG) as path:
        path.write_text(json.dumps({"config": kept, "hash": identity, "provenance": provenance}, indent=1))
    return identity


def load_producer(folder: Path) -> tuple[nn.Module, str]:
    """Returns a saved producer in evaluation mode, and its hash.

    Raises:
        InputError: A file is missing or damaged, or its tensors are not those that the hash was made of.
    """
    try:
        saved = json.loads((folder / CONFIG).read_text())
        producer = build_producer(saved["config"])
        tensors = load_file(folder / TENSORS)
        for name, _ in list(producer.named_buffers()):
            if name in tensors:
                _resize(producer, name, tensors[name])
        producer.load_state_dict(tensors)
        found, expected = producer_hash(producer, saved["config"]), saved["hash"]
    except (InputError, OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        got = str(error).splitlines()[0].rstrip(".")
        raise InputError("cannot read the embedder", where=folder, got=got) from error
    if found != expected:
        raise InputError("the embedder's tensors are not those it was saved with", where=folder, do="embed again")
    return producer.eval(), expected


def provenance_of(folder: Path) -> dict[str, Any]:
    """Returns what a saved producer came from.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return dict(json.loads((folder / CONFIG).read_text())["provenance"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("cannot read the embedder", where=folder, got=str(error).splitlines()[0]) from error


def saved_embedder(run: Path) -> Path:
    """Returns where a run's embedder lies.

    Raises:
        InputError: It was not trained yet.
    """
    folder = run / "embedder"
    if not folder.is_dir():
        raise InputError("no trained embedder", where=run, do="run `peace pretrain` with the same words first")
    return folder


def producer_hash(producer: nn.Module, config: Mapping[str, Any]) -> str:
    """Returns the sha256 of a producer's config and tensors."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(producer.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _resize(producer: nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Gives a buffer, whose size a baseline learns from its zoo, the saved one's shape."""
    *path, last = name.split(".")
    owner = producer.get_submodule(".".join(path))
    setattr(owner, last, torch.empty_like(tensor))
