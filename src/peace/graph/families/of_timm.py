"""timm's models: `architecture` in `config.json` as the Hub has it, or in the file's metadata."""

import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import nn

from peace.errors import InputError, did_you_mean
from peace.graph.families.candidate import Candidate, image, on_meta, refused, sizes, text
from peace.zoo.checkpoint import CONFIG, Checkpoint

_USUAL = (3, 224, 224)


def candidate(checkpoint: Checkpoint) -> Candidate | str:
    """Returns the timm model that `config.json` or the metadata names, or why there is none.

    Raises:
        InputError: `config.json` names an architecture that timm does not have or cannot build as described.
    """
    config = checkpoint.config or {}
    named, told = text(config, "architecture"), text(checkpoint.metadata, "architecture")
    if named is None and told is None:
        return f"no architecture in {CONFIG} or the metadata"
    import timm

    where = checkpoint.path / CONFIG
    if named is None:
        # Metadata may call an architecture anything; a name that timm does not know is no fault.
        if not _known(str(told)):
            return f"'{told}' is none of its models"
        return _made(str(told), {}, "architecture in its metadata", checkpoint.path)
    if not _known(named):
        raise InputError(f"unknown architecture '{named}'", where=where, do=did_you_mean(named, timm.list_models()))
    return _made(named, config, f"architecture in {CONFIG}", where)


def _known(name: str) -> bool:
    import timm

    # `hf-hub:…` and `local-dir:…` would make timm fetch or read something.
    return ":" not in name and "/" not in name and timm.is_model(name)


def _made(name: str, config: Mapping[str, Any], evidence: str, where: object) -> Candidate:
    import timm

    options = _options(config, where)
    try:
        module = on_meta(timm.create_model, name, pretrained=False, pretrained_cfg=_published(config), **options)
    # The arguments come from a file, and any part of any model may stumble over them, in any way.
    except Exception as error:
        raise refused(name, where, error) from error
    return Candidate(name, evidence, True, module, image(*_input_size(module, options)))


def _options(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """The model's arguments, `num_classes` included where `config.json` sets it beside the rest."""
    import timm

    given = config.get("model_args") or {}
    own = set(inspect.signature(timm.create_model).parameters) - {"kwargs"}
    if not isinstance(given, dict) or own & given.keys():
        raise InputError("not arguments of a model", where=where, got=f"model_args {given}",
                         expected="an object without " + ", ".join(sorted(own)))  # fmt: skip
    return {**{key: config[key] for key in ("num_classes",) if isinstance(config.get(key), int)}, **given}


def _published(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the Hub says of the weights, which decides sizes that the arguments leave open; earlier files are flat."""
    from timm.models import PretrainedCfg

    told = config.get("pretrained_cfg", config)
    if not isinstance(told, dict) or "input_size" not in told:
        return None
    known = {field.name for field in fields(PretrainedCfg)}
    return {key: value for key, value in told.items() if key in known and value is not None}


def _input_size(module: nn.Module, options: Mapping[str, Any]) -> tuple[int, ...]:
    size = sizes((getattr(module, "pretrained_cfg", None) or {}).get("input_size")) or _USUAL
    image_size = options.get("img_size")
    side = sizes([image_size, image_size] if type(image_size) is int else image_size)
    channels = options.get("in_chans", size[0])
    return (channels, *(side if side and len(side) == 2 else size[1:]))
