"""`peace sync`: uploads what was recorded offline to Weights & Biases."""

from collections.abc import Sequence
from pathlib import Path

from peace.config import compose, place
from peace.errors import InputError
from peace.tracking.upload import upload, waiting


def run(folder: str | None, words: Sequence[str], dry_run: bool = False) -> None:
    """Uploads the offline runs below a folder, by default that of the runs.

    Args:
        folder: Where to look.
        words: `key=value` words; `paths.runs` is used.
        dry_run: Only say what would be uploaded.

    Raises:
        InputError: The folder does not exist, or there is no key.
        PeaceError: Some runs were not uploaded.
    """
    config = compose("pretrain", words)
    where = Path(folder) if folder else place(config, "runs")
    if folder and not where.is_dir():
        raise InputError("no such folder", got=folder, do="name one that holds runs")
    logs = waiting(where)
    if not logs:
        print(f"nothing to upload in {where}")
        return
    if dry_run:
        print("\n".join(f"would upload {log}" for log in logs))
        return
    upload(logs)
    print(f"{len(logs)} runs uploaded")
