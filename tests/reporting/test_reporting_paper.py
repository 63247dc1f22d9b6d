"""A paper's figures beside ours, and at which scale ours were run."""

import csv
import io
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from peace.errors import InputError
from peace.reporting.paper import read_paper
from peace.reporting.record import Metric, read_records, write_record
from peace.reporting.results import Results
from peace.reporting.scale import run_at
from peace.reporting.table import Rendered, make_table, paper_of

PROVENANCE = {"git_commit": "0123abcd", "versions": {"python": "3"}, "device": "cpu", "zoo": "z", "config": "c"}
SPEC = {
    "title": "T", "caption": "C.", "seeds": 2, "chance": False, "paper": "paper.csv",
    "rows": [{"row": {"method": name, "c": "2"}, "label": label}
             for name, label in (("e_c+d", "E_c+D"), ("ours", "Ours"), ("later", "Later"), ("never", "Never"))],
    "blocks": [{"title": "B", "columns": [{"metric": "a/r2", "label": "Acc", "format": "percent"},
                                          {"metric": "b/tau", "label": "τ", "format": "number"}]}],
}  # fmt: skip
PAPER = """# Table 9 of arXiv:0000.00000
row,metric,value,note
"2,e_c+d",a/r2,0.970,
"2,e_c+d",b/tau,-.36,
"2,later",a/r2,-0.34,printed without decimals
"2,never",b/tau,.5,printed without decimals
"""
MARKDOWN = """|  | Acc (%) | τ |
|---|---:|---:|
| E_c+D | 95.0 ± 1.4 | – |
| *paper* | *97.0* | *−0.36* |
| Ours | **96.0** ± 0.0 | **0.500** ± 0.000 |
| Later | – | – |
| *paper* | *−34* | *–* |
| Never | – | – |
| *paper* | *–* | *0.5* |

Mean ± standard deviation over seeds [95 % interval, mean over seeds]; best in bold.

Lines in italics, the paper's figures: Table 9 of arXiv:0000.00000.

The paper, Later, Acc; Never, τ: printed without decimals.

Run at: models 1,000.

E_c+D, run at: device cpu, steps 900 to 1,000.

No records yet: Later, Never.
"""


def written(root: Path, name: str, seed: int, metrics: dict[str, float], scale: object) -> None:
    values = {metric: Metric(value) for metric, value in metrics.items()}
    row = {"method": name, "c": "2"}
    write_record(root / "records", "paper/table9", row, seed, values, {}, PROVENANCE, 1.0, {"scale": scale})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    place = tmp_path / "experiments" / "paper" / "table9"
    place.mkdir(parents=True)
    (place / "table.yaml").write_text(yaml.safe_dump(SPEC))
    (place / "paper.csv").write_text(PAPER)
    for seed in (0, 1):
        scale = {"models": 1000, "steps": 1000 - 100 * seed, "device": "cpu"}
        written(tmp_path, "e_c+d", seed, {"a/r2": 0.94 + 0.02 * seed}, scale)
        written(tmp_path, "ours", seed, {"a/r2": 0.96, "b/tau": 0.5}, {"models": 1000})
    return tmp_path


def table(home: Path) -> Rendered:
    return make_table("paper/table9", home / "experiments", home / "records")


def test_markdown_has_the_paper_s_line_beneath_ours_with_its_own_digits(home: Path) -> None:
    assert table(home).markdown.partition("## B\n\n")[2] == MARKDOWN


def test_latex_has_the_same_line(home: Path) -> None:
    lines = [line.rstrip("\\ ") for line in table(home).latex.splitlines()]
    assert [line for line in lines if "textit" in line] == [
        r"\textit{paper} & \textit{97.0} & \textit{$-$0.36}",
        r"\textit{paper} & \textit{$-$34} & \textit{--}",
        r"\textit{paper} & \textit{--} & \textit{0.5}",
    ]
    assert r"Later & -- & --" in lines


def test_csv_has_a_column_more_also_for_what_was_not_run(home: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(table(home).csv)))
    assert [(row["row"], row["metric"], row["seeds"], row["mean"], row["paper"]) for row in rows] == [
        ("2,e_c+d", "a/r2", "2", "0.95", "0.970"),
        ("2,e_c+d", "b/tau", "0", "", "-0.36"),
        ("2,ours", "a/r2", "2", "0.96", ""),
        ("2,ours", "b/tau", "2", "0.5", ""),
        ("2,later", "a/r2", "0", "", "-0.34"),
        ("2,never", "b/tau", "0", "", "0.5"),
    ]


def test_without_a_paper_nothing_changes(home: Path) -> None:
    place = home / "experiments" / "paper" / "table9"
    (place / "table.yaml").write_text(yaml.safe_dump({**SPEC, "paper": None}))
    rendered = table(home)
    assert "paper" not in rendered.csv and "italics" not in rendered.markdown and "| Later" not in rendered.markdown
    assert paper_of(place / "table.yaml") is None


def test_what_follows_from_records_includes_it(home: Path) -> None:
    files = Results(home, home / "experiments").files(["paper/table9"])
    assert files[home / "tables" / "paper" / "table9.md"].decode().endswith(MARKDOWN)


def test_scales_that_agree_are_told_once_and_others_by_row(home: Path) -> None:
    first, second = (read_records(home / "records", "paper/table9")[start : start + 2] for start in (0, 2))
    assert list(run_at([("A", second), ("B", second)])) == ["Run at: models 1,000."]
    assert list(run_at([("A", first), ("B", first), ("C", second)])) == [
        "Run at: models 1,000.", "A, B, run at: device cpu, steps 900 to 1,000."
    ]  # fmt: skip
    assert list(run_at([("A", first), ("A", second), ("A", first)]))[1:] == [
        "A, run at: device cpu, steps 900 to 1,000."
    ]  # fmt: skip
    without = [record.model_copy(update={"notes": {}}) for record in second]
    assert list(run_at([("A", without), ("B", second)])) == ["B, run at: models 1,000."]
    assert list(run_at([("A", without)])) == list(run_at([])) == []
    mixed = [record.model_copy(update={"notes": {"scale": {"rate": rate}}}) for rate in ("low", 1.5e-4)
             for record in first[:1]]  # fmt: skip
    assert list(run_at([("A", mixed)])) == ["Run at: rate low, 0.00015."]


@pytest.mark.parametrize("scale", [3, [1], {"models": [1]}, {"models": None}, {"models": True}])
def test_a_scale_that_cannot_be_printed_is_refused(home: Path, scale: object) -> None:
    with pytest.raises(InputError, match="a scale that is no mapping from names to numbers or text in 'notes' of"):
        written(home, "ours", 7, {"a/r2": 0.5}, scale)


REFUSED = {
    "no source": ("row,metric,value\n", "figures without a source in .*: got 'row,metric,value'"),
    "an empty source": ("# \nrow,metric,value\n", "figures without a source"),
    "an empty file": ("", "figures without a source"),
    "other columns": ("# T\nrow,value\n", r"other columns in .*expected row,metric,value\[,note\]"),
    "no columns": ("# T\n", "other columns in"),
    "an unknown row": ("HEAD\nonne,m,1\n", "the table has no such row in .*'onne'.*did you mean 'one'"),
    "an unknown metric": ("HEAD\none,n,1\n", "the table has no such metric in .*got 'n'; choose from m"),
    "a cell twice": ("HEAD\none,m,1\none,m,1\n", "two figures for one cell in .*: got one, m"),
    "no number": ("HEAD\none,m,high\n", "not a figure in .*: got 'high', expected a finite number"),
    "an empty figure": ("HEAD\none,m,\n", "not a figure in .*: got ''"),
    "not finite": ("HEAD\none,m,inf\n", "not a figure in .*: got 'inf'"),
    "a comma too many": ("HEAD\none,m,1,2\n", "more values than columns"),
    "an open quote": ('HEAD\n"one,m,1\n', "cannot read the paper's figures in .*expected CSV"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_figures_are_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    text, sentence = REFUSED[case]
    path = tmp_path / "paper.csv"
    path.write_text(text.replace("HEAD", "# T\nrow,metric,value"))
    with pytest.raises(InputError, match=sentence) as caught:
        read_paper(path, ["one"], ["m"])
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_what_is_read_keeps_its_digits(tmp_path: Path) -> None:
    path = tmp_path / "paper.csv"
    path.write_text("# T\nrow,metric,value,note\none,m,0.970,odd\ntwo,m,1e-3,\n")
    paper = read_paper(path, ["one", "two"], ["m"])
    assert paper.values == {("one", "m"): Decimal("0.970"), ("two", "m"): Decimal("0.001")}
    assert (paper.source, paper.notes) == ("T", {("one", "m"): "odd"})


@pytest.mark.parametrize("name", ["", "../paper.csv", "/paper.csv", "a/b.csv", ".paper.csv", "paper.txt"])
def test_the_figures_lie_beside_the_table(home: Path, name: str) -> None:
    path = home / "experiments" / "paper" / "table9" / "table.yaml"
    path.write_text(yaml.safe_dump({**SPEC, "paper": name}))
    with pytest.raises(InputError, match="wrong value of 'paper'"):
        table(home)


def test_figures_that_are_missing_are_named(home: Path) -> None:
    (home / "experiments" / "paper" / "table9" / "paper.csv").unlink()
    with pytest.raises(InputError, match=r"cannot read the paper's figures in .*paper\.csv"):
        table(home)
