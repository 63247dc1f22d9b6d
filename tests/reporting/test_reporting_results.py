"""The page of all results, and which files follow from records and points."""

import io
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from peace.errors import InputError
from peace.reporting.figures import points_csv
from peace.reporting.record import Metric, write_record
from peace.reporting.results import Results, differing, write
from peace.reporting.table import make_table

PROVENANCE = {"versions": {"python": "3"}, "device": "cpu", "zoo": "z", "config": "c"}
POINTS = points_csv(
    {
        "P": pd.DataFrame(
            {"id": ["a", "b"], "task": "t", "architecture": "mlp", "split": "test", "x": [0, 1], "y": [1, 0]}
        )
    }
)
PAGE = """| experiment | what it shows | made by | status | date | commit | table | figure |
|---|---|---|---|---|---|---|---|
| [digits](../experiments/digits/README.md) | Of digits | `peace sweep digits --local` | partial: 3 of 4 records | \
2026-01-02 to 2026-02-03 | aaaaaaa, ccccccc+dirty, bbbbbbb | [md](tables/digits.md), [tex](tables/digits.tex), \
[csv](tables/digits.csv) | [png](figures/digits.png), [pdf](figures/digits.pdf), [csv](figures/digits.csv) |
| [fresh](../experiments/fresh/README.md) | Of fresh | `peace sweep fresh --local` | no records yet | – | – | – | – |
| [old](../experiments/old/README.md) | Of old | `peace sweep old --local` | complete: 4 of 4 records | – | unknown | \
[md](tables/old.md), [tex](tables/old.tex), [csv](tables/old.csv) | – |
"""


def record(root: Path, experiment: str, method: str, seed: int, commit: str, date: str) -> None:
    told = PROVENANCE | {"git_commit": commit, "date": date}
    write_record(root, experiment, {"method": method}, seed, {"m": Metric(0.5)}, {}, told, 1.0)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    for name in ("old", "digits", "fresh"):
        spec = {
            "title": f"Of {name}", "caption": "C.", "seeds": 2,
            "rows": [{"row": {"method": row}, "label": row} for row in ("one", "two")],
            "blocks": [{"title": "B", "columns": [{"metric": "m", "label": "M", "format": "percent"}]}],
        }  # fmt: skip
        (tmp_path / "experiments" / name).mkdir(parents=True)
        (tmp_path / "experiments" / name / "table.yaml").write_text(yaml.safe_dump(spec))
    records = tmp_path / "results" / "records"
    record(records, "digits", "one", 0, "b" * 40, "2026-02-03T00:00:00Z")
    record(records, "digits", "one", 1, "a" * 40, "2026-01-02T23:59:59Z")
    record(records, "digits", "one", 2, "a" * 40, "2026-01-03T00:00:00Z")
    record(records, "digits", "two", 0, "c" * 40 + "+dirty", "2026-01-03T00:00:00Z")
    record(records, "digits", "unlisted", 0, "c" * 40 + "+dirty", "2026-01-03T00:00:00Z")
    for method, seed in (("one", 0), ("one", 1), ("two", 0), ("two", 1)):
        record(records, "old", method, seed, "unknown", "2026-01-03T00:00:00Z")
    path = records / "old" / "two" / "seed1.json"
    path.write_text(path.read_text().replace('  "date": "2026-01-03T00:00:00Z",\n', ""))
    figures = tmp_path / "results" / "figures"
    figures.mkdir()
    (figures / "digits.csv").write_bytes(POINTS)
    return Results(tmp_path / "results", tmp_path / "experiments")


def test_the_page_is_exact(results: Results) -> None:
    page = results.files([])[results.folder / "README.md"].decode()
    assert page.partition("`+dirty` marks a commit to which files had been changed.\n\n")[2] == PAGE


def test_every_file_that_follows_is_there_and_only_those_asked_for(results: Results) -> None:
    tables = [f"tables/{name}.{form}" for name in ("digits", "old") for form in ("md", "tex", "csv")]
    figure = [f"figures/digits.{form}" for form in ("csv", "png", "pdf")]

    def names(*asked: str) -> list[str]:
        return [path.relative_to(results.folder).as_posix() for path in results.files(asked)]

    assert results.names() == ["digits", "fresh", "old"]
    assert names(*results.names()) == [*tables[:3], *figure, *tables[3:], "README.md"]
    assert names("old") == [*tables[3:], "README.md"] and names("fresh") == ["README.md"]


def test_contents_are_the_table_s_and_the_figure_s(results: Results) -> None:
    files = results.files(["digits"])
    table = make_table("digits", results.experiments, results.folder / "records")
    assert files[results.folder / "tables" / "digits.md"] == table.markdown.encode()
    assert files[results.folder / "figures" / "digits.csv"] == POINTS
    assert results.files(["digits"]) == files


def test_new_points_make_the_figure(results: Results) -> None:
    frame = pd.read_csv(io.BytesIO(POINTS)).drop(columns="panel")
    given = points_csv({"New": frame.assign(x=[5, 6])})
    files = results.files(["digits", "fresh"], {"fresh": given})
    assert files[results.folder / "figures" / "fresh.csv"] == given
    assert b"[png](figures/fresh.png)" in files[results.folder / "README.md"]
    assert files[results.folder / "figures" / "digits.csv"] == POINTS


def test_an_experiment_in_a_folder_of_experiments_is_one_like_any_other(results: Results) -> None:
    shutil.copytree(results.experiments / "old", results.experiments / "paper" / "table1")
    record(results.folder / "records", "paper/table1", "one", 0, "a" * 40, "2026-02-03T00:00:00Z")
    assert results.names() == ["digits", "fresh", "old", "paper/table1"]
    files = results.files(results.names(), {"paper/table1": POINTS})
    write(files)
    made = [path.relative_to(results.folder).as_posix() for path in files if "paper" in path.parts]
    assert made == [*(f"tables/paper/table1.{form}" for form in ("md", "tex", "csv")),
                    *(f"figures/paper/table1.{form}" for form in ("csv", "png", "pdf"))]  # fmt: skip
    page = (results.folder / "README.md").read_text()
    links = re.findall(r"\]\((\S*paper\S*)\)", page)
    assert [link for link in links if not (results.folder / link).exists()] == ["../experiments/paper/table1/README.md"]
    assert r"\label{tab:paper/table1}" in (results.folder / "tables" / "paper" / "table1.tex").read_text()
    gone = results.folder / "tables" / "paper" / "gone.md"
    gone.touch()
    assert results.orphans(files) == [gone] and differing(results.files(results.names())) == []


def test_written_files_differ_in_nothing_and_every_changed_one_is_named(results: Results) -> None:
    files = results.files(results.names())
    assert differing(files) == [path for path in files if path.name != "digits.csv" or path.parent.name == "tables"]
    write(files)
    assert differing(files) == [] and results.orphans(files) == []
    changed = [results.folder / "tables" / "old.tex", results.folder / "figures" / "digits.png"]
    for path in changed:
        path.write_bytes(path.read_bytes() + b" ")
    (results.folder / "README.md").unlink()
    assert set(differing(files)) == {*changed, results.folder / "README.md"}


def test_what_nothing_makes_is_an_orphan(results: Results) -> None:
    write(results.files(results.names()))
    for name in ("tables/gone.md", "figures/gone.png", "tables/.gitkeep"):
        (results.folder / name).touch()
    found = results.orphans(results.files(results.names()))
    assert [path.relative_to(results.folder).as_posix() for path in found] == ["figures/gone.png", "tables/gone.md"]


def test_a_wrong_record_or_table_of_any_experiment_is_refused(results: Results) -> None:
    path = results.folder / "records" / "old" / "one" / "seed0.json"
    path.write_text(path.read_text().replace('"2026-01-03T00:00:00Z"', '"yesterday"'))
    with pytest.raises(InputError, match=r"wrong value of 'date' in .*seed0\.json: got 'yesterday'"):
        results.files(["digits"])
    path.unlink()
    (results.experiments / "fresh" / "table.yaml").write_text("title: [")
    with pytest.raises(InputError, match=r"cannot read the table in .*fresh"):
        results.files(["digits"])
