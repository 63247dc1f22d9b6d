"""Whether Weights & Biases is told anything, and whether at once or later."""

import os
from typing import Literal

from peace.errors import InputError

Mode = Literal["online", "offline", "disabled"]


def mode() -> Mode:
    """Returns how runs are recorded: `online` where a key is found, `offline` where none is, or as `WANDB_MODE` says.

    Raises:
        InputError: `WANDB_MODE` is none of its values, or the key that was found cannot be one.
    """
    asked = os.environ.get("WANDB_MODE", "online")
    known: dict[str, Mode] = {
        "online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"
    }  # fmt: skip
    if asked not in known:
        raise InputError("no such mode of Weights & Biases", where="WANDB_MODE", got=asked,
                         expected="online, offline or disabled")  # fmt: skip
    return "offline" if known[asked] == "online" and not has_key() else known[asked]


def has_key() -> bool:
    """Returns whether wandb finds a key: in `WANDB_API_KEY`, in netrc, or wherever else it looks; it never asks.

    Raises:
        InputError: What it found cannot be a key.
    """
    import wandb
    from wandb.errors import AuthenticationError
    from wandb.sdk.lib import wbauth

    host = wandb.setup().settings.base_url
    try:
        return wbauth.authenticate_session(host=host, source="peace", prompt=False) is not None
    except AuthenticationError as error:
        raise InputError("not a key of Weights & Biases", got=str(error).rstrip("."),
                         do="log in with `wandb login`, or unset WANDB_API_KEY") from error  # fmt: skip


def first_process() -> bool:
    """Returns whether this is the first of the processes that train one model; the others tell nothing."""
    # Each launcher sets some of them: what is first by every one of them is first.
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "NODE_RANK", "LOCAL_RANK", "SLURM_PROCID"))
