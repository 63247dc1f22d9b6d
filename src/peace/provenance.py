"""What a result came from: commit, versions, device, hashes and seconds."""

import hashlib
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("peace", "torch", "lightning", "torch-geometric", "faiss-cpu", "scikit-learn", "numpy")
_STARTED = time.monotonic()


def git_commit() -> str:
    """Returns the commit of the source tree, with `+dirty` if files differ from it; `unknown` outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = _git("rev-parse", "HEAD", cwd=here)
        return commit + ("+dirty" if _git("status", "--porcelain", "--", "*.py", "*.yaml", cwd=here.parents[1]) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str, cwd: Path) -> str:
    return subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, check=True).stdout.strip()


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that decide results."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def device(kind: str = "cpu") -> str:
    """Returns the accelerator's name if `kind` is `cuda`, else the processor with torch's number of threads."""
    import torch

    if kind == "cuda":
        return torch.cuda.get_device_name()
    return f"cpu {platform.machine()}, {torch.get_num_threads()} threads"


def file_hash(path: str | Path) -> str:
    """Returns the sha256 of a file's content, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seconds_since_start() -> float:
    """Returns the seconds since this module was first imported, about the age of the process."""
    return time.monotonic() - _STARTED


def now() -> str:
    """Returns the date and time in UTC to the second, as `2026-01-31T23:59:59Z`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def stamp(kind: str = "cpu") -> dict[str, object]:
    """Returns commit, versions and device, of the kind that was used: what every record and saved model carries."""
    return {"git_commit": git_commit(), "versions": versions(), "device": device(kind)}
