"""How a run is called and grouped in Weights & Biases."""

from collections.abc import Mapping
from typing import Any

_TAG, _GROUP = 64, 128


def labels(config: Mapping[str, Any], command: str, part: str = "") -> dict[str, Any]:
    """Returns the arguments of `wandb.init` that place a run among others.

    The group is the experiment (a zoo, which experiments share, is a group of its own), the job type the command, the
    tags the zoo and what makes the embeddings: the encoder where it is trained, else the baseline.

    Args:
        config: The whole config.
        command: Such as `pretrain`.
        part: Which part of the work the run is.
    """
    zoo = str(config["zoo"]["name"])
    made_by = _maker(config)
    row = ",".join(str(value) for value in (config.get("row") or {}).values()) or made_by or zoo
    name = " ".join(filter(None, [command, row, f"seed{config['seed']}", part]))
    tags = [tag[:_TAG] for tag in (zoo, made_by) if tag]
    return {"group": _group(config, zoo), "job_type": command, "name": name[:_GROUP],
            "tags": tags}  # fmt: skip


def _group(config: Mapping[str, Any], zoo: str) -> str:
    """Without slashes, as the names of artifacts: a group is part of an address."""
    return str(config.get("experiment", zoo)).replace("/", "-")[-_GROUP:]


def _maker(config: Mapping[str, Any]) -> str:
    if "producer" not in config:
        return ""
    producer = str(config["producer"]["name"])
    return str(config["encoder"]["name"]) if producer == "trained" else producer
