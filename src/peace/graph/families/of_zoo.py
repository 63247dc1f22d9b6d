"""PEACE's own models: `architecture_config` in the metadata says all."""

import json

from peace.errors import InputError
from peace.graph.families.candidate import Candidate, image, on_meta, refused, sizes, text
from peace.zoo import architectures
from peace.zoo.checkpoint import Checkpoint


def candidate(checkpoint: Checkpoint) -> Candidate | str:
    """Returns the model of `architecture_config`, or why there is none.

    Raises:
        InputError: There is one, but no module can be built from it.
    """
    config = text(checkpoint.metadata, "architecture_config")
    if config is None:
        return "no architecture_config in the metadata"
    where = f"the architecture_config of {checkpoint.path}"
    try:
        described = json.loads(config)
    except (ValueError, RecursionError) as error:
        raise InputError("cannot read JSON", where=where, got=str(error)) from error
    shape = sizes(described.get("input_shape")) if isinstance(described, dict) else None
    if shape is None:
        raise InputError("no input_shape", where=where, expected="a list of sizes such as [1, 28, 28]")
    try:
        module = on_meta(architectures.build, described)
    # What a file says of itself may be anything, such as sizes that no tensor can have.
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise refused(str(described.get("name")), where, error) from error
    name = text(checkpoint.metadata, "architecture") or architectures.short_name(described)
    return Candidate(name, "architecture_config in its metadata", True, module, image(*shape))
