"""What lies under `results`: one line an experiment, with the command that makes it again."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from peace.reporting.printing import flat
from peace.reporting.record import Record
from peace.reporting.spec import TableSpec

_HEAD = """<!-- Written by `peace table` from the records: do not edit. -->

# Results

Each table is a pure function of `experiments/<name>/table.yaml` and the records under `records/`, each figure of the
CSV of points beside it. `peace table --all` writes everything on this page, `peace table --all --check` compares it
byte for byte. Dates are those of the records, in UTC; `+dirty` marks a commit to which files had been changed.

| experiment | what it shows | made by | status | date | commit | table | figure |
|---|---|---|---|---|---|---|---|
"""
_UNKNOWN = "–"


@dataclass(frozen=True)
class Entry:
    """What one line is derived from.

    Args:
        name: The experiment.
        spec: Its table.
        records: All its records; none yet is a state like any other.
        figure: Whether it has one.
    """

    name: str
    spec: TableSpec
    records: Sequence[Record]
    figure: bool

    @property
    def status(self) -> str:
        """How many of the rows and seeds that the table asks for have a record."""
        wanted = [row.row for row in self.spec.rows if not row.paper_only]
        asked = len(wanted) * self.spec.seeds
        counts = [sum(record.row == row for record in self.records) for row in wanted]
        found = sum(min(count, self.spec.seeds) for count in counts)
        if not found:
            return "no records yet"
        return f"{'complete' if found == asked else 'partial'}: {found} of {asked} records"


def overview(entries: Iterable[Entry], experiments: Path, results: Path) -> str:
    """Returns the page `results/README.md`.

    Args:
        entries: The experiments, in the order of the lines.
        experiments: The folder of all experiments.
        results: The folder of the page, from which its links start.
    """
    home = Path(os.path.relpath(experiments, results)).as_posix()
    return _HEAD + "".join(f"| {' | '.join(_cells(entry, home))} |\n" for entry in entries)


def _cells(entry: Entry, home: str) -> list[str]:
    name, made = entry.name, bool(entry.records)
    forms = [f"[{form}](tables/{name}.{form})" for form in ("md", "tex", "csv") if made]
    pictures = [f"[{form}](figures/{name}.{form})" for form in ("png", "pdf", "csv") if entry.figure]
    return [
        f"[{name}]({home}/{name}/README.md)",
        flat(entry.spec.title).replace("|", "\\|"),
        f"`peace sweep {entry.spec.records or name} --local`",
        entry.status,
        _dates(entry.records),
        _commits(entry.records),
        ", ".join(forms) or _UNKNOWN,
        ", ".join(pictures) or _UNKNOWN,
    ]


def _dates(records: Iterable[Record]) -> str:
    """The day of the records, or the first and the last; unknown where one of them is older than dates in records."""
    days = [record.date and record.date[:10] for record in records]
    if not days or not all(days):
        return _UNKNOWN
    return " to ".join(dict.fromkeys((min(days), max(days))))


def _commits(records: Iterable[Record]) -> str:
    """The commits, shortened, in the order of their first record's date."""
    ordered = sorted(records, key=lambda record: (record.date or "", record.git_commit))
    short = (f"{commit[:7]}{mark}{dirty}" for commit, mark, dirty in (r.git_commit.partition("+") for r in ordered))
    return ", ".join(dict.fromkeys(short)) or _UNKNOWN
