"""Every block of the README runs as it stands; those for a cluster in `tests/slurm`."""

from pathlib import Path

import pytest

from readme_checkout import BLOCKS, run_blocks, small_checkout

FIRST, *TOUR = [block for block in BLOCKS if "--submit" not in block]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.mark.slow
def test_the_tour_runs_as_written(checkout: Path) -> None:
    # `make test` runs one file here instead of all, which would contain this test.
    made = run_blocks(checkout, [FIRST], PYTEST_ADDOPTS="tests/test_errors.py")
    assert made.returncode == 0, made.stderr[-3000:]
    assert "| PEACE (network_gnn)†" in made.stdout and "passed" in made.stdout
    assert (checkout / "build" / "demo" / "figures" / "demo.png").is_file()

    # Recorded without a key, as a newcomer's commands are.
    toured = run_blocks(checkout, TOUR, WANDB_MODE="offline")
    assert toured.returncode == 0, toured.stdout[-1500:] + toured.stderr[-3000:]
    assert "files are what the records and points say" in toured.stdout
    assert (checkout / "results" / "records" / "scratch").is_dir()
    assert list(checkout.glob("zoos/parity/*/manifest.parquet"))
    assert list(checkout.glob("runs/demo/sweep/tasks/*.json"))
    named = {line.removeprefix("would upload ") for line in toured.stdout.splitlines() if line.startswith("would ")}
    for recorded in ("runs/scratch/*/seed1", "runs/zoos/demo/*", "runs/demo/*/seed1"):
        logs = checkout.glob(f"{recorded}/wandb/offline-run-*/run-*.wandb")
        assert named & {str(log.resolve()) for log in logs}, recorded


def test_the_readme_opens_with_the_two_commands() -> None:
    assert [line.split("#")[0].strip() for line in FIRST.splitlines()] == ["make demo", "make test"]
    assert len(TOUR) >= 6
