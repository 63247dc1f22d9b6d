"""Models of the transformers library, where it is installed: `config.json` names class and sizes."""

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from peace.errors import InputError
from peace.graph.families.candidate import Candidate, image, on_meta, refused, text
from peace.zoo.checkpoint import CONFIG, Checkpoint

_LIBRARY = "transformers"
_TOKENS = 16


def candidate(checkpoint: Checkpoint) -> Candidate | str:
    """Returns the model that `config.json` describes, or why there is none.

    Classes come from the library alone; code that a repository brings along (`auto_map`) is never run.

    Raises:
        InputError: The library is there, but lacks the class or cannot build it as described.
    """
    config = checkpoint.config or {}
    kind = text(config, "model_type")
    if kind is None:
        return f"no model_type in {CONFIG}"
    if "quantization_config" in config:
        return f"{CONFIG} says that its weights are quantised"
    if importlib.util.find_spec(_LIBRARY) is None:
        return f"{CONFIG} says '{kind}', but that library is not installed"
    library = importlib.import_module(_LIBRARY)
    where = checkpoint.path / CONFIG
    name = _class_name(config)
    maker = getattr(library, name, None) if name else None
    if name and not (isinstance(maker, type) and issubclass(maker, nn.Module)):
        raise InputError(f"unknown architecture '{name}'", where=where, do="install the transformers that has it")
    try:
        sizes = library.AutoConfig.for_model(
            kind, **{key: value for key, value in config.items() if key not in ("model_type", "auto_map")}
        )
        # Plain attention, so that each step of it is seen by the tracer.
        module = on_meta(maker or library.AutoModel.from_config, sizes)
    # The arguments come from a file, and any part of any model may stumble over them, in any way.
    except Exception as error:
        raise refused(name or kind, where, error) from error
    base = text({"base": getattr(module, "base_model_prefix", None)}, "base")
    inputs = _inputs(module, sizes)
    return Candidate(name or kind, f"model_type in {CONFIG}", True, module, inputs, f"{base}." if base else "")


def _class_name(config: Mapping[str, Any]) -> str | None:
    names = config.get("architectures")
    named = isinstance(names, list) and names and isinstance(names[0], str) and names[0].isidentifier()
    return names[0] if named else None


def _inputs(module: nn.Module, config: object) -> tuple[Tensor, ...]:
    """A few tokens, or an image of the config's size, by what the model says that it reads."""
    if getattr(module, "main_input_name", "input_ids") == "pixel_values":
        side = getattr(config, "image_size", 224)
        height, width = side if isinstance(side, list | tuple) else (side, side)
        return image(getattr(config, "num_channels", 3), height, width)
    return (torch.zeros(1, _TOKENS, dtype=torch.long, device="meta"),)
