"""Everything under `results` that is derived from records and points: one content a path, to be written or compared."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from peace.atomic import replacing
from peace.experiments import experiments_with
from peace.reporting.curves import curves_csv, draw_curves
from peace.reporting.figures import draw
from peace.reporting.grid import GridSpec, draw_grid
from peace.reporting.overview import Entry, overview
from peace.reporting.predictions import PredictionsSpec, draw_predictions
from peace.reporting.record import Record, read_records, recorded
from peace.reporting.spec import TableSpec, read_spec
from peace.reporting.table import Rendered, make_table


class Results:
    """A folder of results: `records` and the CSV of figures, and what follows from them and from `experiments`."""

    def __init__(self, folder: Path, experiments: Path) -> None:
        self.folder, self.experiments = Path(folder), Path(experiments)

    def names(self) -> list[str]:
        """Returns every experiment that has a `table.yaml`."""
        return experiments_with(self.experiments, "table.yaml")

    def table(self, name: str) -> Rendered:
        """Returns an experiment's table.

        Raises:
            InputError: There is no such table, it has no records, or something that it is made of is wrong.
        """
        return make_table(name, self.experiments, self.folder / "records")

    def points(self, name: str) -> Path:
        """Returns where the points of an experiment's figure lie, if it has one."""
        return self.folder / "figures" / f"{name}.csv"

    def files(self, names: Iterable[str], points: Mapping[str, bytes] | None = None) -> dict[Path, bytes]:
        """Returns the content of the tables and figures of some experiments, and of the page that lists all.

        An experiment without records has no table; one without points no figure.

        Args:
            names: The experiments.
            points: New points for the figures of some, instead of those that lie here.

        Raises:
            InputError: A record, a table's file or the points of a figure are wrong.
        """
        files: dict[Path, bytes] = {}
        points = points or {}
        for name in names:
            if self.records(name):
                files |= self.table(name).files(name, self.folder / "tables")
            if curves := self.curves(name):
                files |= draw_curves(curves, self.points(name))
            elif name in points or self.points(name).is_file():
                files |= self.pictures(name, points.get(name) or self.points(name).read_bytes())
        entries = [self.entry(name, name in points) for name in self.names()]
        page = overview(entries, self.experiments, self.folder)
        return files | {self.folder / "README.md": page.encode()}

    def curves(self, name: str) -> bytes:
        """Returns the CSV of an experiment's figure of curves; empty if it has none, or no records yet."""
        panels = self.spec(name).figure
        return curves_csv(panels, records) if isinstance(panels, list) and (records := self.records(name)) else b""

    def pictures(self, name: str, csv: bytes) -> dict[Path, bytes]:
        """Returns the figure of an experiment that is drawn from points, as its `table.yaml` says or by tasks."""
        spec = self.spec(name)
        match spec.figure:
            case GridSpec():
                return draw_grid(csv, self.points(name), spec.figure)
            case PredictionsSpec():
                known = [record for record in self.records(name) if record.seed == spec.figure.seed]
                rows = {row.label: record for row in spec.rows for record in known if record.row == row.row}
                return draw_predictions(csv, self.points(name), spec.figure, rows)
        return draw(csv, self.points(name))

    def spec(self, name: str) -> TableSpec:
        """Returns what an experiment's `table.yaml` says."""
        path = self.experiments / name / "table.yaml"
        return TableSpec.parse(read_spec(path), path)

    def records(self, name: str) -> list[Record]:
        """Returns the records of an experiment's table, none where it has none yet."""
        spec = self.spec(name)
        root, source = self.folder / "records", spec.records or name
        return spec.chosen(read_records(root, source)) if recorded(root, source) else []

    def entry(self, name: str, drawn: bool = False) -> Entry:
        """Returns what the page says of an experiment; `drawn` if its figure is being made."""
        return Entry(name, self.spec(name), self.records(name),
                     drawn or bool(self.curves(name)) or self.points(name).is_file())  # fmt: skip

    def orphans(self, files: Iterable[Path]) -> list[Path]:
        """Returns the tables and figures here that are none of `files`, as those of an experiment that is no more."""
        lying = (path for part in ("tables", "figures") for path in (self.folder / part).glob("**/[!.]*"))
        return sorted({path for path in lying if not path.is_dir()} - set(files))


def differing(files: Mapping[Path, bytes]) -> list[Path]:
    """Returns those of the files that are missing or have another content."""
    return [path for path, content in files.items() if not path.is_file() or path.read_bytes() != content]


def write(files: Mapping[Path, bytes]) -> None:
    """Writes each file whole or not at all."""
    for path, content in files.items():
        with replacing(path) as temporary:
            temporary.write_bytes(content)
