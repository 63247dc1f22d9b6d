"""Tables: exact text from a small set of records whose means and deviations are worked out by hand."""

import copy
import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from peace.errors import InputError
from peace.reporting.printing import number
from peace.reporting.record import Metric, Record, read_records, write_record
from peace.reporting.spec import TableSpec
from peace.reporting.summary import summarise
from peace.reporting.table import make_table, render

PROVENANCE = {"git_commit": "0123abcd", "versions": {"python": "3.12.1"}, "device": "cpu", "zoo": "f", "config": "c"}
SPEC = {
    "title": "Digits & letters.",
    "caption": "Precision at 5\n  of 100_000 models.",
    "seeds": 3,
    "rows": [
        {"row": {"method": "peace"}, "label": "PEACE (network_gnn)"},
        {"row": {"method": "statistics"}, "label": "[s|t] 50%"},
        {"row": {"method": "flat"}, "label": "Flat"},
        {"row": {"method": "bm25"}, "label": "BM25"},
    ],
    "baseline": {"method": "flat"},
    "chance": True,
    "blocks": [
        {
            "title": "Seen tasks",
            "columns": [
                {"metric": "seen/p", "label": "P@5", "format": "percent", "better": "max"},
                {"metric": "seen/tau", "label": "τ", "format": "number", "better": "max"},
            ],
        },
        {
            "title": "Cost",
            "columns": [
                {"metric": "cost/s", "label": "s|q", "format": "scientific", "better": "min"},
                {"metric": "cost/n", "label": "Models", "format": "integer", "better": "none"},
            ],
        },
    ],
}
# By hand: 0.90, 0.92, 0.94 have mean 0.92 and deviation sqrt((0.02² + 0.02²) / 2) = 0.02; 0.5, 0.6 have mean 0.55 and
# deviation sqrt(2 · 0.05²) = 0.0707107; 0.25, 0.35 the same deviation around 0.3.
RESULTS = {
    "peace": [
        {
            "seen/p": Metric(0.90 + 0.02 * seed, 0.1, 0.88 + 0.02 * seed, 0.92 + 0.02 * seed),
            "seen/tau": Metric(0.5, 0.0),
            "cost/s": Metric(2e-3),
            "cost/n": Metric(1000.0),
        }
        for seed in range(3)
    ],
    "flat": [
        {
            "seen/p": Metric(0.5 + 0.1 * seed, 0.1),
            "seen/tau": Metric(-0.25 - 0.1 * seed, 0.0),
            "cost/s": Metric(1e-5),
            "cost/n": Metric(1000.0),
        }
        for seed in range(2)
    ],
    "statistics": [{"seen/p": Metric(0.7, 0.1, 0.65, 0.75), "cost/s": Metric(1.234e-4)}],
    "extra": [{"seen/p": Metric(0.99, 0.9)}, {"seen/p": Metric(0.99)}],
}
MARKDOWN = r"""<!-- Written by `peace table digits` from the records: do not edit. -->

# Digits & letters.

Precision at 5 of 100_000 models.

## Seen tasks

|  | P@5 (%) | τ |
|---|---:|---:|
| PEACE (network_gnn) | **92.0** ± 2.0 [90.0, 94.0] | **0.500** ± 0.000 |
| [s\|t] 50%† | 70.0 [65.0, 75.0] | – |
| Flat† | 55.0 ± 7.1 | −0.300 ± 0.071 |
| Chance | 10.0 | 0.00 |

## Cost

|  | s\|q | Models |
|---|---:|---:|
| PEACE (network_gnn) | 2.00e−03 ± 0.00e+00 | 1000 ± 0 |
| [s\|t] 50%† | 1.23e−04 | – |
| Flat† | **1.00e−05** ± 0.00e+00 | 1000 ± 0 |

Mean ± standard deviation over seeds [95 % interval, mean over seeds]; best in bold.

Baseline: Flat.

† Fewer than the 3 seeds asked for.

No records yet: BM25.

Records that this table does not list: extra (2).
"""
LATEX = r"""% Written by `peace table digits` from the records: do not edit.
% Needs \usepackage{booktabs,graphicx}.
\begin{table}
\centering
\caption{Digits \& letters. Precision at 5 of 100\_000 models.}
\label{tab:digits}
\textbf{Seen tasks} \\[2pt]
\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{\begin{tabular}{lrr}
\toprule
& P@5 (\%) & $\tau$ \\
\midrule
PEACE (network\_gnn) & \textbf{92.0} $\pm$ 2.0 [90.0, 94.0] & \textbf{0.500} $\pm$ 0.000 \\
{[}s\textbar{}t{]} 50\%$^\dagger$ & \underline{70.0} [65.0, 75.0] & -- \\
Flat$^\dagger$ & 55.0 $\pm$ 7.1 & \underline{$-$0.300} $\pm$ 0.071 \\
\midrule
Chance & 10.0 & 0.00 \\
\bottomrule
\end{tabular}} \\[6pt]
\textbf{Cost} \\[2pt]
\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{\begin{tabular}{lrr}
\toprule
& s\textbar{}q & Models \\
\midrule
PEACE (network\_gnn) & 2.00e$-$03 $\pm$ 0.00e+00 & 1000 $\pm$ 0 \\
{[}s\textbar{}t{]} 50\%$^\dagger$ & \underline{1.23e$-$04} & -- \\
Flat$^\dagger$ & \textbf{1.00e$-$05} $\pm$ 0.00e+00 & 1000 $\pm$ 0 \\
\bottomrule
\end{tabular}} \\[6pt]
{\footnotesize Mean $\pm$ standard deviation over seeds {[}95 \% interval, mean over seeds{]}; best in bold, @
second best underlined. \\ Baseline: Flat. \\ $^\dagger$ Fewer than the 3 seeds asked for. \\ No records yet: BM25. \\ @
Records that this table does not list: extra (2). \par}
\end{table}
""".replace("@\n", "")
CSV = """row,block,metric,seeds,mean,std,chance,low,high,difference,difference_low,difference_high,p,p_holm
peace,Seen tasks,seen/p,3,0.92,0.02,0.1,0.9,0.94,,,,,
peace,Seen tasks,seen/tau,3,0.5,0.0,0.0,,,,,,,
statistics,Seen tasks,seen/p,1,0.7,,0.1,0.65,0.75,,,,,
flat,Seen tasks,seen/p,2,0.55,0.0707107,0.1,,,,,,,
flat,Seen tasks,seen/tau,2,-0.3,0.0707107,0.0,,,,,,,
peace,Cost,cost/s,3,0.002,0.0,,,,,,,,
peace,Cost,cost/n,3,1000.0,0.0,,,,,,,,
statistics,Cost,cost/s,1,0.0001234,,,,,,,,,
flat,Cost,cost/s,2,1e-05,0.0,,,,,,,,
flat,Cost,cost/n,2,1000.0,0.0,,,,,,,,
"""


def write_results(root: Path, results: dict[str, list[dict[str, Metric]]]) -> list[Record]:
    for method, seeds in results.items():
        for seed, metrics in enumerate(seeds):
            write_record(root, "digits", {"method": method}, seed, metrics, {}, PROVENANCE, 1.0)
    return read_records(root, "digits")


def one_column(**changes: object) -> dict:
    spec = copy.deepcopy(SPEC)
    spec["blocks"] = [{"title": "Only", "columns": [{"metric": "m", "label": "M", "format": "percent"} | changes]}]
    return spec


@pytest.fixture
def laid_out(tmp_path: Path) -> tuple[Path, Path]:
    experiments, records = tmp_path / "experiments", tmp_path / "records"
    (experiments / "digits").mkdir(parents=True)
    (experiments / "digits" / "table.yaml").write_text(yaml.safe_dump(SPEC))
    write_results(records, RESULTS)
    return experiments, records


@pytest.mark.parametrize(("form", "expected"), [("markdown", MARKDOWN), ("latex", LATEX), ("csv", CSV)])
def test_text_is_exact_whatever_the_order_of_records(tmp_path: Path, form: str, expected: str) -> None:
    records = write_results(tmp_path, RESULTS)
    assert getattr(render(SPEC, records), form) == expected
    assert getattr(render(SPEC, records[::-1]), form) == expected


def structure(latex: str) -> list[int]:
    """Cells of each row of each tabular, once braces and environments are balanced and nothing needs another engine."""
    body = "\n".join(line for line in latex.splitlines() if not line.startswith("%"))
    bare = re.sub(r"\\[{}&%$#_]|\\label\{[\w:/-]+\}", "", body)
    assert bare.count("$") % 2 == 0 and not set("%#~") & set(bare) and "_" not in bare
    depth = list(itertools.accumulate({"{": 1, "}": -1}.get(letter, 0) for letter in bare))
    assert min(depth) == 0 == depth[-1]
    open_ones: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", bare):
        assert kind == "begin" or open_ones.pop() == name
        open_ones += [name] if kind == "begin" else []
    assert open_ones == []
    # pdfTeX knows the letters of Latin 1 and typographic quotes; of what is beyond them each sign must be a command.
    assert {letter for letter in bare if ord(letter) > 255} <= set("‘’“”")
    columns, counts = 0, []
    for line in bare.splitlines():
        columns = len(found[1]) if (found := re.search(r"\{tabular\}\{(lr*)\}", line)) else columns
        if line.endswith(r"\\") and "&" in line:
            assert line.count("&") + 1 == columns, line
            counts.append(columns)
    return counts


def test_latex_is_balanced_and_of_plain_signs_whatever_the_names(tmp_path: Path) -> None:
    strange = r"100 % of $x_1 & {#2} ~ \dagger ^ [a]*<b>|c× ρ ≤ −† ▲ ▼ – é"
    spec = copy.deepcopy(SPEC) | {"title": strange, "caption": strange}
    spec["rows"][0]["label"] = spec["blocks"][0]["title"] = spec["blocks"][1]["columns"][0]["label"] = strange
    records = write_results(tmp_path, RESULTS)
    assert structure(render(SPEC, records).latex) == [3] * 5 + [3] * 4
    assert structure(render(spec, records).latex) == [3] * 5 + [3] * 4


def test_the_committed_latex_is_balanced() -> None:
    paths = sorted((Path(__file__).parents[2] / "results" / "tables").rglob("*.tex"))
    assert [len(structure(path.read_text())) >= 2 for path in paths] == [True] * len(paths) != []


def test_the_files_of_a_table_are_its_three_forms(laid_out: tuple[Path, Path]) -> None:
    files = make_table("digits", *laid_out).files("digits", Path("tables"))
    assert files == {
        Path("tables/digits.md"): MARKDOWN.encode(),
        Path("tables/digits.tex"): LATEX.encode(),
        Path("tables/digits.csv"): CSV.encode(),
    }


def test_chance_that_differs_between_rows_is_refused(tmp_path: Path) -> None:
    records = write_results(tmp_path, {"peace": [{"m": Metric(0.9, 0.1)}], "flat": [{"m": Metric(0.5, 0.1002)}]})
    with pytest.raises(InputError, match=r"chance level of 'm' .* seed 0: got peace 0\.1, flat 0\.1002.*galleries"):
        render(one_column(), records)
    assert "Chance" not in render(one_column() | {"chance": False}, records).markdown


def test_a_block_of_some_rows_has_a_chance_level_and_a_best_row_of_its_own(tmp_path: Path) -> None:
    for zoo, chance in (("a", 0.1), ("b", 0.2)):
        for method, value in (("peace", 0.9), ("flat", 0.5)):
            metrics = {"m": Metric(value - chance, chance)}
            write_record(tmp_path, "digits", {"zoo": zoo, "method": method}, 0, metrics, {}, PROVENANCE, 1.0)
    rows = [{"row": {"zoo": zoo, "method": method}, "label": f"{zoo}, {method}"}
            for zoo in "ab" for method in ("peace", "flat")]  # fmt: skip
    columns = [{"metric": "m", "label": "M", "format": "percent"}]
    blocks = [{"title": zoo, "of": {"zoo": zoo}, "columns": columns} for zoo in "ab"]
    spec = {"title": "T", "caption": "C.", "seeds": 1, "rows": rows, "blocks": blocks}
    text = render(spec, read_records(tmp_path, "digits")).markdown
    heading = "|  | M (%) |\n|---|---:|\n"
    assert f"## a\n\n{heading}| a, peace | **80.0** |\n| a, flat | 40.0 |\n| Chance | 10.0 |\n\n" in text
    assert f"## b\n\n{heading}| b, peace | **70.0** |\n| b, flat | 30.0 |\n| Chance | 20.0 |\n\n" in text
    with pytest.raises(InputError, match=r"the block 'a' is of {'zoo': 'c'}, and none of the rows"):
        TableSpec.parse(spec | {"blocks": [{**blocks[0], "of": {"zoo": "c"}}]}, "spec")


def test_chance_may_differ_between_seeds_and_slightly_between_rows(tmp_path: Path) -> None:
    results = {
        "peace": [{"m": Metric(0.9, 0.1)}, {"m": Metric(0.9, 0.4)}],
        "flat": [{"m": Metric(0.5, 0.10005)}, {"m": Metric(0.5)}],
    }
    (block,) = summarise(TableSpec.parse(one_column(), "spec"), write_results(tmp_path, results)).blocks
    assert block.chance == (pytest.approx((0.1 + 0.4 + 0.10005) / 3),)


def test_chance_row_is_left_out_on_request(tmp_path: Path) -> None:
    text = render(SPEC | {"chance": False}, write_results(tmp_path, RESULTS)).markdown
    assert text == MARKDOWN.replace("| Chance | 10.0 | 0.00 |\n", "")


def test_a_table_of_one_seed_does_not_speak_of_a_spread_over_seeds(tmp_path: Path) -> None:
    records = write_results(tmp_path, {"peace": [{"m": Metric(0.5, 0.1, 0.4, 0.6)}]})
    shown = render(one_column(), records)
    assert "\nOne seed [95 % interval]; best in bold.\n" in shown.markdown and "over seeds" not in shown.markdown
    assert "One seed {[}95 \\% interval{]}; best in bold, second" in shown.latex


def test_equal_print_shares_the_rank_and_none_ranks_nothing(tmp_path: Path) -> None:
    results = {"peace": [{"m": Metric(0.90001)}], "flat": [{"m": Metric(0.9)}], "statistics": [{"m": Metric(0.8)}]}
    records = write_results(tmp_path, results)
    latex = render(one_column(), records).latex
    assert latex.count(r"\textbf{90.0}") == 2
    assert latex.count(r"\underline{80.0}") == 1
    assert "**" not in render(one_column(better="none"), records).markdown
    assert r"\underline{90.0}" in render(one_column(better="min"), records).latex


def test_dagger_where_one_seed_lacks_the_metric(tmp_path: Path) -> None:
    seeds = [{"m": Metric(0.9)}, {"m": Metric(0.9)}, {"other": Metric(1.0)}]
    assert (
        "| PEACE (network_gnn)† | **90.0** ± 0.0 |"
        in render(one_column(), write_results(tmp_path, {"peace": seeds})).markdown
    )


def test_a_row_is_left_out_where_it_has_only_the_metrics_of_other_blocks(tmp_path: Path) -> None:
    costs = {metric: value for metric, value in RESULTS["flat"][0].items() if metric.startswith("cost/")}
    records = write_results(tmp_path, {**RESULTS, "flat": [costs]})
    seen, cost = summarise(TableSpec.parse(copy.deepcopy(SPEC), "spec"), records, None).blocks
    assert [line.label for line in seen.lines] == ["PEACE (network_gnn)", "[s|t] 50%"]
    assert [line.label for line in cost.lines] == ["PEACE (network_gnn)", "[s|t] 50%", "Flat"]


def test_table_of_unlisted_records_alone_says_so(tmp_path: Path) -> None:
    text = render(SPEC, write_results(tmp_path, {"extra": RESULTS["extra"]})).markdown
    assert "No records yet: PEACE (network_gnn), [s|t] 50%, Flat, BM25." in text
    assert "Records that this table does not list: extra (2)." in text


@pytest.mark.parametrize(
    ("value", "style", "largest", "text"),
    [
        (0.12345, "percent", 1.0, "12.3"),
        (-0.0001, "percent", 1.0, "0.0"),
        (0.5, "number", 0.5, "0.500"),
        (9.996, "number", 9.996, "10.0"),
        (12345.0, "number", 12345.0, "12300"),
        (0.00123, "number", 0.2, "0.001"),
        (0.0, "number", 0.0, "0.00"),
        (-1.5e-7, "scientific", 1.0, "−1.50e−07"),
        (1234.5678, "integer", 1.0, "1235"),
    ],
)
def test_numbers(value: float, style: str, largest: float, text: str) -> None:
    assert number(value, style, largest) == text


def broken(change: Callable[[dict], object]) -> str:
    spec = copy.deepcopy(SPEC)
    change(spec)
    return yaml.safe_dump(spec)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (broken(lambda s: s.update(seed=3)), r"unknown key 'seed' \(did you mean 'seeds'\?\) in .*table.yaml"),
        (broken(lambda s: s["rows"][1].update(lable="x")), r"unknown key 'lable' .*'label'.* in 'rows\.1' of"),
        (
            broken(lambda s: s["blocks"][0]["columns"][1].pop("metric")),
            r"missing key 'metric' in 'blocks\.0\.columns\.1' of",
        ),
        (broken(lambda s: s["blocks"][0]["columns"][0].update(format="pct")), "wrong value of 'format'.*'percent'"),
        (broken(lambda s: s["blocks"][0]["columns"][0].update(better=None)), "wrong value of 'better'.*'none'"),
        (broken(lambda s: s.update(seeds="3")), "wrong value of 'seeds'.*a valid integer"),
        (broken(lambda s: s.update(seeds=0)), "wrong value of 'seeds'.*greater than or equal to 1"),
        (broken(lambda s: s.update(rows=[])), "wrong value of 'rows'.*at least 1 item"),
        (broken(lambda s: s["rows"].append(s["rows"][0])), r"row \{'method': 'peace'\} twice in 'rows' of"),
        (broken(lambda s: s["rows"][0].update(row={"norm": True})), "wrong value of 'norm'.*a valid string"),
        (broken(lambda s: s.update(baseline={"method": "x"})), "the baseline .* is none of the rows in"),
        ("title: [", "cannot read the table in .*expected YAML"),
        ("title: !!python/object/apply:os.system [exit]", "cannot read the table in .*expected YAML"),
        (b"\xff\xfe\x00", "cannot read the table in .*expected YAML"),
        ("", "wrong content in .*got None, expected a valid dictionary"),
    ],
)
def test_bad_specs_are_refused_by_name(laid_out: tuple[Path, Path], text: str | bytes, message: str) -> None:
    experiments, records = laid_out
    path = experiments / "digits" / "table.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputError, match=message) as caught:
        make_table("digits", experiments, records)
    assert str(path) in str(caught.value)


def test_a_table_of_another_experiment_s_records_has_its_own_name(laid_out: tuple[Path, Path]) -> None:
    experiments, records = laid_out
    (experiments / "few").mkdir()
    (experiments / "few" / "table.yaml").write_text(yaml.safe_dump(SPEC | {"records": "digits"}))
    table = make_table("few", experiments, records)
    assert "`peace table few`" in table.markdown and r"\label{tab:few}" in table.latex
    assert "peace table digits" not in table.markdown + table.latex + table.csv


def test_missing_spec_and_missing_records(laid_out: tuple[Path, Path]) -> None:
    experiments, records = laid_out
    with pytest.raises(InputError, match=r"no table\.yaml in .*letters"):
        make_table("letters", experiments, records)
    with pytest.raises(InputError, match="peace sweep digits --local"):
        make_table("digits", experiments, records / "none")
    with pytest.raises(InputError, match="no records to make a table from"):
        render(SPEC, [])


def test_numbers_in_a_row_are_their_text(tmp_path: Path) -> None:
    spec = one_column() | {"rows": [{"row": {"num_layers": 6, "rate": 0.1}, "label": "Six"}], "baseline": None}
    row = {"num_layers": "6", "rate": "0.1"}
    write_record(tmp_path, "digits", row, 0, {"m": Metric(0.5)}, {}, PROVENANCE, 1.0)
    assert "| Six† | **50.0** |" in render(spec, read_records(tmp_path, "digits")).markdown
