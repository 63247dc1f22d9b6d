"""The tables of an experiment: a pure function of its `table.yaml` and its records, byte for byte."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peace.errors import InputError
from peace.reporting.comparison import Scores
from peace.reporting.markup import comma_separated, latex, markdown
from peace.reporting.paper import Paper, read_paper
from peace.reporting.record import Record, read_records, read_scores, row_label
from peace.reporting.spec import TableSpec, read_spec
from peace.reporting.summary import summarise


@dataclass(frozen=True)
class Rendered:
    """One table in its three forms."""

    markdown: str
    latex: str
    csv: str

    def files(self, name: str, folder: Path) -> dict[Path, bytes]:
        """Returns the content of `<folder>/<name>.md`, `.tex` and `.csv`."""
        forms = {"md": self.markdown, "tex": self.latex, "csv": self.csv}
        return {Path(folder) / f"{name}.{suffix}": text.encode() for suffix, text in forms.items()}


def render(
    spec: Mapping[str, Any],
    records: Sequence[Record],
    scores: Scores | None = None,
    paper: Paper | None = None,
    name: str | None = None,
) -> Rendered:
    """Returns a table as Markdown, LaTeX and CSV.

    Args:
        spec: The content of a `table.yaml`.
        records: All records of one experiment, in any order.
        scores: The scores of the records' queries by row label and seed, of those records that have any.
        paper: The figures of a paper to print beside them.
        name: The table's own experiment, if not that of the records.

    Raises:
        InputError: The spec has a missing, unknown or wrong key, there are no records, or rows of one seed were scored
            on different galleries or queries.
    """
    summary = summarise(TableSpec.parse(dict(spec), "the table's spec"), records, scores, paper)
    summary = replace(summary, experiment=name or summary.experiment)
    return Rendered(markdown(summary), latex(summary), comma_separated(summary))


def make_table(name: str, experiments_root: Path, records_root: Path) -> Rendered:
    """Returns the table of an experiment from what lies on the disk.

    Args:
        name: The experiment.
        experiments_root: Holds `<name>/table.yaml`, and beside it the paper's figures that it names.
        records_root: Holds `<name>/<row>/seed<k>.json`, and beside them the scores of their queries.

    Raises:
        InputError: The table's file, a record or a record's scores are missing or wrong.
    """
    path = Path(experiments_root) / name / "table.yaml"
    content = read_spec(path)
    spec = TableSpec.parse(content, path)
    source = spec.records or name
    records = spec.chosen(read_records(records_root, source))
    if not records:
        raise InputError("no records of these rows", where=records_root / source,
                         do=f"make them with `peace sweep {source} --local`")  # fmt: skip
    scores = {(row_label(record.row), record.seed): read_scores(records_root, record) for record in records}
    return render(content, records, {key: found for key, found in scores.items() if found}, paper_of(path), name)


def paper_of(path: Path) -> Paper | None:
    """Returns the paper's figures that a `table.yaml` names, if it names any.

    Raises:
        InputError: One of the two files is wrong, or they do not fit together.
    """
    spec = TableSpec.parse(read_spec(path), path)
    rows = [row_label(row.row) for row in spec.rows]
    return read_paper(path.with_name(spec.paper), rows, spec.metrics) if spec.paper else None
