"""torchvision's models: named by the metadata or the file, or known by the names and shapes of all their tensors."""

import importlib.util
import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from peace.graph.families.candidate import Candidate, image, on_meta, text
from peace.graph.families.fitting import Shapes, fit
from peace.zoo.checkpoint import Checkpoint

# What torchvision's own files are called: the model's name and the start of a hash.
_FILE_NAME = re.compile(r"([a-z0-9_]+?)(-[0-9a-f]{8})?")
_BUFFERS = re.compile(r"(running_mean|running_var|relative_coords_table)$")
# Their own way to draw weights takes seconds, and there are no weights to draw.
_OPTIONS: dict[str, dict[str, Any]] = {name: {"init_weights": False} for name in ("googlenet", "inception_v3")}
_FRAMES = 16


def candidate(checkpoint: Checkpoint) -> Candidate | str:
    """Returns the torchvision model that a checkpoint is of, or why there is none."""
    if importlib.util.find_spec("torchvision") is None:
        return "the library is not installed"
    told = text(checkpoint.metadata, "architecture")
    if told in _names():
        return _made(str(told), "architecture in its metadata", True, checkpoint.floats)
    called = _FILE_NAME.fullmatch(checkpoint.path.stem)
    if called and called[1] in _names():
        return _made(called[1], "the file's name", False, checkpoint.floats)
    # The published number of parameters leaves few to build and compare.
    fitting = [
        found
        for name in _of_size(_parameters(checkpoint.floats))
        if fit((found := _made(name, "names and shapes of its tensors", False, checkpoint.floats)).module,
               checkpoint.floats).exact
    ]  # fmt: skip
    if len(fitting) > 1:
        return f"it may be {' or '.join(found.detail for found in fitting)}, which have tensors alike"
    return fitting[0] if fitting else "none of its models has tensors of these names and shapes"


def _names() -> dict[str, str]:
    """The models that take one image or clip, by name, and the part of the library that they are in."""
    from torchvision import models

    rooms = {"": models, "segmentation": models.segmentation, "video": models.video}
    return {name: room for room, module in rooms.items() for name in models.list_models(module=module)}


def _of_size(parameters: int) -> list[str]:
    from torchvision import models

    weights = {name: list(models.get_model_weights(name)) for name in _names()}
    return [
        name for name, published in weights.items() if any(one.meta["num_params"] == parameters for one in published)
    ]


def _parameters(shapes: Shapes) -> int:
    return sum(math.prod(shape) for name, shape in shapes.items() if not _BUFFERS.search(name))


def _made(name: str, evidence: str, declared: bool, given: Shapes) -> Candidate:
    room = _names()[name]
    options = dict(_OPTIONS.get(name, {}))
    if room == "segmentation":
        options |= {"weights_backbone": None, "aux_loss": any("aux_classifier." in tensor for tensor in given)}
    module = _build(name, options)
    classes = {got[0] for got, _ in fit(module, given).misshaped.values() if got}
    # A model fine-tuned on other classes differs in its last layer alone.
    if len(classes) == 1:
        other = _build(name, {**options, "num_classes": classes.pop()})
        module = other if fit(other, given).exact else module
    return Candidate(name, evidence, declared, module, _inputs(name, room))


def _build(name: str, options: Mapping[str, Any]) -> nn.Module:
    from torchvision import models

    return on_meta(models.get_model, name, weights=None, **options)


def _inputs(name: str, room: str) -> tuple[Tensor, ...]:
    """An image or a clip of the size that the published weights are used at."""
    from torchvision import models

    how = models.get_model_weights(name).DEFAULT.transforms.keywords
    side = how.get("crop_size", how.get("resize_size", 224))
    height, width = side if isinstance(side, tuple | list) else (side, side)
    return image(3, *((_FRAMES,) if room == "video" else ()), height, width)
