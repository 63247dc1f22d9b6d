"""Which files of a folder hold weights, told from their names."""

import re
from pathlib import Path

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".th")

_SAFE_INDEX, _TORCH_INDEX = ".safetensors.index.json", ".bin.index.json"

# The state of a training run, as the Hub's trainers name it: no model.
_STATE = re.compile(r"(optimizer|scheduler|scaler|training_args|rng_state)([_-].*)?\.(pt|pth|bin)")
# The same model twice, as the Hub has many: in both formats, whole or in shards.
_HUB_SAFE = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_HUB_TORCH = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin")


def is_shard_index(path: Path) -> bool:
    """Whether a file lists the shards of a checkpoint."""
    return path.name.endswith((_SAFE_INDEX, _TORCH_INDEX))


def shard_indices(folder: Path) -> list[Path]:
    """Returns the indices of shards in a folder, sorted; those of torch files only where it has no safetensors."""
    safe = sorted(folder.glob(f"*{_SAFE_INDEX}"))
    return safe or ([] if any(folder.glob("*.safetensors")) else sorted(folder.glob(f"*{_TORCH_INDEX}")))


def beside_index(index: Path) -> list[Path]:
    """Returns the files beside an index of shards that are of its kind, sorted."""
    return sorted(index.parent.glob(f"*{Path(index.name.removesuffix('.index.json')).suffix}"))


def shard_index(folder: Path) -> Path | None:
    """Returns the index of the checkpoint in shards that a folder is; None where it has none, or several."""
    found = shard_indices(folder)
    return found[0] if len(found) == 1 else None


def is_training_state(path: Path) -> bool:
    """Whether a file holds the state of an optimiser, a generator and the like beside a model."""
    return _STATE.fullmatch(path.name) is not None


def weight_files(folder: Path) -> list[Path]:
    """Returns the files of weights in a folder, sorted; a model that lies there in both formats of the Hub goes once.

    Links that lead nowhere are among them: whoever reads one says so, where nobody would miss one left out.
    """
    files = (path for path in folder.iterdir() if path.suffix in SUFFIXES and not path.is_dir())
    found = sorted(path for path in files if not path.name.startswith(".") and not is_training_state(path))
    twice = any(_HUB_SAFE.fullmatch(path.name) for path in found)
    return [path for path in found if not (twice and _HUB_TORCH.fullmatch(path.name))]
