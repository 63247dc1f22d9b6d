"""The README's code blocks, and a checkout in which they take seconds: the same commands on a much smaller demo."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)

_METHODS = ("peace", "flat", "metadata_50")
_SMALL = {
    "zoo/demo.yaml": {
        "subset_count": 4, "subset_size": 3, "held_out": 1, "seeds": 2, "epochs": 2, "checkpoints": [1, 2],
        "learning_rates": [0.005], "batch_size": 64, "val_share": 0.25, "test_share": 0.25,
    },
    "trainer/demo.yaml": {"max_steps": 4, "steps_per_epoch": 2},
}  # fmt: skip


def small_checkout(folder: Path) -> Path:
    """Copies what the README speaks of into a folder, with a small demo and without the demo's results."""
    for name in ("src", "configs", "experiments", "slurm", "results"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "cluster.sh"))
    shutil.rmtree(folder / "results" / "records" / "demo")
    for path in (folder / "results").glob("*/demo.*"):
        path.unlink()
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "README.md"):
        shutil.copy2(ROOT / name, folder)
    for name in ("conftest.py", "random_pairs.py", "test_errors.py", "contracts"):
        copy = shutil.copytree if (ROOT / "tests" / name).is_dir() else shutil.copy2
        (folder / "tests").mkdir(exist_ok=True)
        copy(ROOT / "tests" / name, folder / "tests" / name)
    for name, values in _SMALL.items():
        path = folder / "configs" / name
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}))
    sweep = folder / "experiments" / "demo" / "sweep.yaml"
    sweep.write_text(yaml.safe_dump(_fewer_methods(yaml.safe_load(sweep.read_text())), sort_keys=False))
    _borrow_environment(folder)
    return folder


def _fewer_methods(sweep: dict[str, Any]) -> dict[str, Any]:
    def kept(step: dict[str, Any]) -> dict[str, Any]:
        if "only" not in step:
            return step
        return {**step, "only": {"method": [method for method in step["only"]["method"] if method in _METHODS]}}

    methods = {name: words for name, words in sweep["axes"]["method"].items() if name in _METHODS}
    steps = [step for step in map(kept, sweep["steps"]) if step.get("only") != {"method": []}]
    return {**sweep, "seeds": [0, 1], "axes": {"method": methods}, "steps": steps}


def _borrow_environment(folder: Path) -> None:
    """This environment as the checkout's own: to install it once more would take minutes and the network."""
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(Path(sys.prefix) / "bin")
    (folder / ".venv" / ".ready").touch()


def run_blocks(folder: Path, blocks: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs blocks one after the other in one shell, which ends at the first command that fails."""
    script = "set -euxo pipefail\n" + "\n".join(blocks)
    environment = {
        **os.environ, "PYTHONPATH": str(folder / "src"), "PYTEST_ADDOPTS": "", "WANDB_MODE": "disabled",
        "OMP_NUM_THREADS": "1", "PEACE_HOME": str(folder), **variables,
    }  # fmt: skip
    command = ["bash", "-c", script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
