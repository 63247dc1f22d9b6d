"""`peace table`: the tables of an experiment from its records, and its figure from its points."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from peace.commands.evaluate import points_path
from peace.config import compose, folder, place
from peace.errors import PeaceError
from peace.reporting.figures import panels
from peace.reporting.record import read_records
from peace.reporting.spec import read_spec
from peace.reporting.table import check_table, write_table
from peace.tracking import artifacts
from peace.tracking.run import Tracking


def run(experiment: str, words: list[str], check: bool) -> None:
    """Prints the Markdown table and writes `.md`, `.tex`, `.csv` and the figure; with `check` only compares.

    Raises:
        PeaceError: With `check`, a file differs from what the records say.
    """
    config = compose("evaluate", [f"experiment={experiment}", *words])
    results, experiments = place(config, "results"), folder("experiments")
    if check:
        differing = check_table(experiment, experiments, results / "records", results / "tables")
        if differing:
            raise PeaceError(
                f"not what the records say: {', '.join(map(str, differing))}; run `peace table {experiment}`"
            )
        print(f"the tables of {experiment} are what the records say")
        return
    markdown = write_table(experiment, experiments, results / "records", results / "tables").markdown
    print(markdown)
    print(f"table: {results / 'tables' / experiment}.md, .tex, .csv")
    _draw(config, read_spec(experiments / experiment / "table.yaml")["rows"], results / "figures" / f"{experiment}.png")
    with Tracking(config, "table", place(config, "runs") / experiment) as tracked:
        zoos = sorted({record.zoo for record in read_records(results / "records", experiment)})
        tracked.describe(zoo_hash=zoos)
        tracked.text("table", markdown)
        files = (results / "tables" / f"{experiment}.{suffix}" for suffix in ("md", "tex", "csv"))
        tracked.made(artifacts.table(experiment, *files))


def _draw(config: Mapping[str, Any], rows: list[dict[str, Any]], picture: Path) -> None:
    """Draws the points that `peace evaluate` left for the config's seed, in the order of the table's rows."""
    frames = {}
    for row in rows:
        points = points_path(config, row["row"], config["seed"])
        if points.is_file():
            frame = pd.read_csv(points)
            frames[f"{row['label']}, {frame['method'].iloc[0].upper()}"] = frame
    if frames:
        panels(frames, picture)
        print(f"picture: {picture} (points: {picture.with_suffix('.csv')})")
