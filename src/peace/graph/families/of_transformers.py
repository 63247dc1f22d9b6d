"""Models of the transformers library, where it is installed: `config.json` names class and sizes."""

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from peace.errors import InputError
from peace.graph.families.candidate import Candidate, image, on_meta, refused, text
from peace.zoo.checkpoint import CONFIG, Checkpoint

_LIBRARY = "transformers"
# Earlier versions saved them as if they were weights.
_CONSTANTS = (r"rotary_emb\.inv_freq$",)
_TOKENS, _SAMPLES = 16, 16_000


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
        if getattr(sizes, "use_pretrained_backbone", False):
            # Such a backbone would be fetched from the Hub.
            sizes.use_pretrained_backbone = False
        module = on_meta(maker or library.AutoModel.from_config, sizes)
    # The arguments come from a file, and any part of any model may stumble over them, in any way.
    except Exception as error:
        raise refused(name or kind, where, error) from error
    found = Candidate(name or kind, f"model_type in {CONFIG}", True, module, _inputs(module, sizes))
    ignored = (*(getattr(module, "_keys_to_ignore_on_load_unexpected", None) or ()), *_CONSTANTS)
    return replace(found, renamings=tuple(_renamings(module)), ignored=ignored)


def _class_name(config: Mapping[str, Any]) -> str | None:
    names = config.get("architectures")
    named = isinstance(names, list) and names and isinstance(names[0], str) and names[0].isidentifier()
    return names[0] if named else None


def _renamings(module: nn.Module) -> Iterator[Callable[[str], str]]:
    """How files name tensors: as the bare model does, or as an earlier version of the library did."""
    if base := getattr(module, "base_model_prefix", ""):
        yield partial("{}.{}".format, base)
    try:
        mapping = importlib.import_module(f"{_LIBRARY}.conversion_mapping")
        loading = importlib.import_module(f"{_LIBRARY}.core_model_loading")
    except ImportError:  # a version of the library that keeps no list of earlier names
        return
    earlier = [one for one in mapping.get_model_conversion_mapping(module) if isinstance(one, loading.WeightRenaming)]
    state = module.state_dict()
    yield lambda name: loading.rename_source_key(name, earlier, [], base or None, state)[0]


def _inputs(module: nn.Module, config: object) -> tuple[Tensor | None, ...]:
    """A few tokens, an image of the config's size or a second of sound, by what the model says that it reads."""
    read = getattr(module, "main_input_name", "input_ids")
    if read == "pixel_values":
        side = getattr(config, "image_size", 224)
        height, width = side if isinstance(side, list | tuple) else (side, side)
        return image(getattr(config, "num_channels", 3), height, width)
    if read == "input_values":
        return image(_SAMPLES)
    tokens = torch.zeros(1, _TOKENS, dtype=torch.long, device="meta")
    # Encoder's tokens, no mask of them, decoder's tokens.
    return (tokens, None, tokens) if getattr(config, "is_encoder_decoder", False) else (tokens,)
