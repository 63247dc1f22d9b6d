"""The README's cluster tour in a real Slurm, as it is written, from `--submit` to the table."""

import subprocess
import time
from pathlib import Path

import pytest

from readme_checkout import BLOCKS, run_blocks, small_checkout

pytestmark = pytest.mark.slow

(TOUR,) = [block for block in BLOCKS if "--submit" in block]


def test_the_cluster_tour_works_as_written(slurm: dict[str, str], tmp_path: Path) -> None:
    checkout = small_checkout(tmp_path)
    path = f"{checkout / '.venv' / 'bin'}:{slurm['PATH']}"
    toured = run_blocks(checkout, [TOUR], **{**slurm, "PATH": path})
    assert toured.returncode == 0, toured.stderr
    assert "19 commands in 7 arrays" in toured.stdout

    deadline = time.monotonic() + 300
    queue = ["squeue", "--noheader", "--name=" + ",".join(f"peace-demo-{step}" for step in STEPS)]
    while subprocess.run(queue, env=slurm, capture_output=True, text=True, check=True).stdout:
        assert time.monotonic() < deadline, run_blocks(checkout, ["peace sweep demo --status"], **slurm).stdout
        time.sleep(1)

    status = run_blocks(checkout, ["peace sweep demo --status"], **{**slurm, "PATH": path}).stdout
    assert status.splitlines()[-1] == "19 commands: 19 done", status
    (log,) = checkout.glob("runs/demo/sweep/logs/table-*.log")
    assert "| PEACE (network_gnn)† |" in log.read_text()
    assert (checkout / "results" / "tables" / "demo.md").is_file()


STEPS = ("zoo", "pretrain", "embed", "evaluate", "index", "table")
