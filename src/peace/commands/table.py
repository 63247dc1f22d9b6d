"""`peace table`: the tables of experiments from their records, and their figures from their points."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from peace.commands.evaluate import points_path
from peace.config import compose, folder, place
from peace.errors import InputError, PeaceError
from peace.reporting.figures import points_csv
from peace.reporting.grid import GridSpec, grid_csv
from peace.reporting.predictions import PredictionsSpec, predictions_csv
from peace.reporting.results import Results, differing, write
from peace.reporting.spec import Picture
from peace.tracking import artifacts
from peace.tracking.run import Tracking


def run(experiment: str | None, words: list[str], check: bool = False, dry_run: bool = False) -> None:
    """Prints an experiment's table and writes its files, or those of all experiments, and the page that lists them.

    Args:
        experiment: A folder under `experiments`; none for all that have a `table.yaml`.
        words: `key=value` words of `configs/evaluate.yaml`; `paths.results`, `paths.runs` and `seed` are used.
        check: Only compare with what is there, figures with the CSV of their points.
        dry_run: Only say what would be written.

    Raises:
        PeaceError: With `check`, a file is not what the records and points say.
    """
    config = compose("evaluate", [*([f"experiment={experiment}"] if experiment else []), *words])
    results = Results(place(config, "results"), folder("experiments"))
    names = results.names() if experiment is None else [experiment]
    table = results.table(experiment).markdown if experiment else _states(results, names)
    points = {} if check or experiment is None else _points(config, experiment, results)
    files = results.files(names, points)
    if check:
        _compare(files, results, experiment)
    elif dry_run:
        print("\n".join(f"would write {path}" for path in files))
    else:
        write(files)
        print(table)
        print("\n".join(f"written: {path}" for path in files))
        if experiment:
            _tell(config, results, experiment, table)


def _tell(config: Mapping[str, Any], results: Results, experiment: str, table: str) -> None:
    with Tracking(config, "table", place(config, "runs") / experiment) as tracked:
        zoos = sorted({record.zoo for record in results.records(experiment)})
        tracked.describe(zoo_hash=zoos)
        tracked.text("table", table)
        files = (results.folder / "tables" / f"{experiment}.{suffix}" for suffix in ("md", "tex", "csv"))
        tracked.made(artifacts.table(experiment, *files))


def _states(results: Results, names: list[str]) -> str:
    if not names:
        raise InputError("no experiment has a table", where=results.experiments, expected="NAME/table.yaml")
    return "\n".join(f"{name}: {results.entry(name).status}" for name in names)


def _compare(files: Mapping[Path, bytes], results: Results, experiment: str | None) -> None:
    wrong = differing(files)
    left = results.orphans(files) if experiment is None else []
    told = [f"not what records and points say: {', '.join(map(str, wrong))}"] if wrong else []
    told += [f"made by no experiment: {', '.join(map(str, left))}"] if left else []
    if told:
        do = f"run `peace table {experiment or '--all'}`" if wrong else "delete what nothing makes"
        raise PeaceError(f"{'; '.join(told)}; {do}")
    print(f"{len(files)} files are what the records and points say")


def _points(config: Mapping[str, Any], experiment: str, results: Results) -> dict[str, bytes]:
    """The points of one seed's picture that were kept for it, in the order of the table's rows.

    A picture that `table.yaml` describes says its seed; a picture of tasks is that of the config's.
    """
    spec = results.spec(experiment)
    if isinstance(spec.figure, list):
        return {}
    source = {**config, "experiment": spec.records or experiment} if spec.figure else config
    kind = "predictions" if isinstance(spec.figure, PredictionsSpec) else "points"
    seed = spec.figure.seed if spec.figure else config["seed"]
    paths = {row.label: points_path(source, row.row, seed, kind) for row in spec.rows}
    frames = {label: pd.read_csv(path) for label, path in paths.items() if path.is_file()}
    return {experiment: _csv(spec.figure, frames)} if frames else {}


def _csv(figure: Picture | None, frames: Mapping[str, pd.DataFrame]) -> bytes:
    match figure:
        case GridSpec():
            return grid_csv(figure, frames)
        case PredictionsSpec():
            return predictions_csv(figure, frames)
    return points_csv({f"{label}, {frame['method'].iloc[0].upper()}": frame for label, frame in frames.items()})
