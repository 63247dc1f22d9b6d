"""The tables of an experiment: a pure function of its `table.yaml` and its records, byte for byte."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peace.atomic import replacing
from peace.reporting.markup import comma_separated, latex, markdown
from peace.reporting.record import Record, read_records
from peace.reporting.spec import TableSpec, read_spec
from peace.reporting.summary import summarise


@dataclass(frozen=True)
class Rendered:
    """One table in its three forms."""

    markdown: str
    latex: str
    csv: str


def render(spec: Mapping[str, Any], records: Sequence[Record]) -> Rendered:
    """Returns a table as Markdown, LaTeX and CSV.

    Args:
        spec: The content of a `table.yaml`.
        records: All records of one experiment, in any order.

    Raises:
        InputError: The spec has a missing, unknown or wrong key, there are no records, or rows of one seed were scored
            on different galleries.
    """
    summary = summarise(TableSpec.parse(dict(spec), "the table's spec"), records)
    return Rendered(markdown(summary), latex(summary), comma_separated(summary))


def write_table(name: str, experiments_root: Path, records_root: Path, out: Path) -> Rendered:
    """Writes `<out>/<name>.md`, `.tex` and `.csv` and returns them.

    Args:
        name: The experiment.
        experiments_root: Holds `<name>/table.yaml`.
        records_root: Holds `<name>/<row>/seed<k>.json`.
        out: Where the files go.

    Raises:
        InputError: The table's file or a record is missing or wrong.
    """
    rendered = _derive(name, experiments_root, records_root)
    for path, text in _files(name, rendered, out).items():
        with replacing(path) as temporary:
            temporary.write_bytes(text)
    return rendered


def check_table(name: str, experiments_root: Path, records_root: Path, out: Path) -> list[Path]:
    """Returns those of the three files that are missing or differ from what `write_table` would write.

    Raises:
        InputError: The table's file or a record is missing or wrong.
    """
    files = _files(name, _derive(name, experiments_root, records_root), out)
    return [path for path, text in files.items() if not path.is_file() or path.read_bytes() != text]


def _derive(name: str, experiments_root: Path, records_root: Path) -> Rendered:
    spec = read_spec(Path(experiments_root) / name / "table.yaml")
    return render(spec, read_records(records_root, name))


def _files(name: str, rendered: Rendered, out: Path) -> dict[Path, bytes]:
    forms = {"md": rendered.markdown, "tex": rendered.latex, "csv": rendered.csv}
    return {Path(out) / f"{name}.{suffix}": text.encode() for suffix, text in forms.items()}
