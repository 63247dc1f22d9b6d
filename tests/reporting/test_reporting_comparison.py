"""Cells against the baseline row: by hand, whatever the company, and what cannot be compared says so."""

import copy
from pathlib import Path

import pytest
import torch
import yaml
from pandas import Series

from peace.errors import InputError
from peace.metrics.significance import paired_bootstrap
from peace.reporting.comparison import Scores, compare
from peace.reporting.record import Metric, Record, read_records, read_scores, row_label, write_record
from peace.reporting.table import make_table, render

PROVENANCE = {"git_commit": "c", "versions": {"python": "3"}, "device": "cpu", "zoo": "z", "config": "c"}
IDS = [f"m{place:02}" for place in range(20)]
SURE = [0.9] * 20
BASE = [0.5, 0.6] * 10
WORSE = [0.1] * 20
# Better on 11 of 20 queries and worse on 9, by as much.
UNSURE = [base + (0.1 if place < 11 else -0.1) for place, base in enumerate(BASE)]
SPEC = {
    "title": "T",
    "caption": "C.",
    "seeds": 2,
    "rows": [{"row": {"method": name}, "label": name.title()} for name in ("sure", "unsure", "worse", "flat", "plain")],
    "baseline": {"method": "flat"},
    "blocks": [
        {
            "title": "B",
            "columns": [
                {"metric": "seen/p", "label": "P", "format": "percent"},
                {"metric": "seen/p", "label": "error", "format": "percent", "better": "min"},
                {"metric": "seen/p", "label": "neither", "format": "percent", "better": "none"},
            ],
        }
    ],
}


def write(root: Path, method: str, seed: int, each: list[float], ids: list[str] = IDS, scored: bool = True) -> None:
    scores = Series(each, index=ids)
    metrics = {"seen/p": Metric(scores.mean()), "seen/twice": Metric(2 * scores.mean()), "alone": Metric(1.0)}
    queries = {"seen/p": scores, "seen/twice": 2 * scores} if scored else None
    write_record(root, "digits", {"method": method}, seed, metrics, {}, PROVENANCE, 1.0, queries=queries)


def read(root: Path) -> tuple[dict[str, list[Record]], Scores]:
    rows: dict[str, list[Record]] = {}
    for record in read_records(root, "digits"):
        rows.setdefault(record.row["method"], []).append(record)
    scores = {(row_label(r.row), r.seed): read_scores(root, r) for found in rows.values() for r in found}
    return rows, {key: found for key, found in scores.items() if found}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed in (0, 1):
        for method, each in {"sure": SURE, "unsure": UNSURE, "worse": WORSE, "flat": BASE}.items():
            write(tmp_path, method, seed, each)
    return tmp_path


def test_differences_are_those_of_the_paired_bootstrap(root: Path) -> None:
    rows, scores = read(root)
    found = compare(rows.values(), rows["flat"], ["seen/p", "seen/twice", "alone"], scores)
    assert sorted(found) == [(row, m) for row in ("sure", "unsure", "worse") for m in ("seen/p", "seen/twice")]
    # By hand: 0.9 - 0.55, (11 - 9) · 0.1 / 20 and 0.1 - 0.55.
    assert {row: found[row, "seen/p"].difference for row in rows if row != "flat"} == pytest.approx(
        {"sure": 0.35, "unsure": 0.01, "worse": -0.45}
    )
    stored = [(torch.tensor(UNSURE) - torch.tensor(BASE)).double()[:, None]] * 2
    keys = [(scores["flat", seed].ids["seen"], seed) for seed in (0, 1)]
    alone, cell = paired_bootstrap(stored, keys), found["unsure", "seen/p"]
    assert [cell.low, cell.high, cell.p] == pytest.approx([alone.low.item(), alone.high.item(), alone.p.item()])
    assert cell.low < 0 < cell.high and 0.4 < cell.p < 0.8
    twice = found["unsure", "seen/twice"]
    assert (twice.difference, twice.p) == (pytest.approx(2 * cell.difference), cell.p)


def test_p_values_are_corrected_for_the_rows_of_a_column(root: Path) -> None:
    rows, scores = read(root)
    found = compare(rows.values(), rows["flat"], ["seen/p"], scores)
    smallest = 2 / 10_001
    # Two of three are as small as can be: times 3, and the next not below that; the last times 1.
    assert [found[row, "seen/p"].p for row in ("sure", "worse")] == pytest.approx([smallest, smallest])
    assert [found[row, "seen/p"].p_holm for row in ("sure", "worse")] == pytest.approx([3 * smallest, 3 * smallest])
    assert found["unsure", "seen/p"].p_holm == found["unsure", "seen/p"].p
    assert [found[row, "seen/p"].significant for row in ("sure", "worse", "unsure")] == [True, True, False]


def test_only_seeds_that_both_rows_have_are_compared(root: Path) -> None:
    write(root, "sure", 2, WORSE)
    write(root, "flat", 3, SURE)
    rows, scores = read(root)
    assert compare([rows["sure"]], rows["flat"], ["seen/p"], scores)["sure", "seen/p"].difference == pytest.approx(0.35)
    assert compare([rows["sure"][2:]], rows["flat"], ["seen/p"], scores) == {}


def test_a_cell_is_compared_only_if_every_seed_has_scores(root: Path) -> None:
    write(root, "sure", 1, SURE, scored=False)
    rows, scores = read(root)
    assert {row for row, _ in compare(rows.values(), rows["flat"], ["seen/p"], scores)} == {"unsure", "worse"}


def test_the_company_changes_nothing_but_the_correction(root: Path) -> None:
    rows, scores = read(root)
    among = compare(rows.values(), rows["flat"], ["alone", "seen/twice", "seen/p"], scores)["unsure", "seen/p"]
    alone = compare([rows["unsure"]], rows["flat"], ["seen/p"], scores)["unsure", "seen/p"]
    assert [among.low, among.high, among.p] == pytest.approx([alone.low, alone.high, alone.p])


def test_other_queries_are_refused_by_name(root: Path) -> None:
    write(root, "worse", 1, WORSE, ids=[*IDS[1:], "m99"])
    rows, scores = read(root)
    with pytest.raises(InputError, match=r"rows 'worse' and 'flat' cannot be paired in 'seen/p' of seed 1: got differ"):
        compare(rows.values(), rows["flat"], ["seen/p"], scores)


def marks(root: Path) -> str:
    rows, scores = read(root)
    records = [record for found in rows.values() for record in found]
    rendered = render(SPEC, records, scores)
    assert render(SPEC, records[::-1], scores) == rendered
    return rendered.markdown + rendered.latex


def test_marks_say_better_and_worse_by_the_column_s_sense(root: Path) -> None:
    text = marks(root)
    assert "| Sure | **90.0**▲ ± 0.0 | 90.0▼ ± 0.0 | 90.0 ± 0.0 |" in text
    assert "| Worse | 10.0▼ ± 0.0 | **10.0**▲ ± 0.0 | 10.0 ± 0.0 |" in text
    assert "| Unsure | 56.0 ± 0.0 | 56.0 ± 0.0 | 56.0 ± 0.0 |" in text
    assert r"Sure & \textbf{90.0}$^{\bigtriangleup}$ $\pm$ 0.0 & 90.0$^{\bigtriangledown}$ $\pm$ 0.0 &" in text
    assert "▲ better, ▼ worse than the baseline, p < 0.05: two-sided paired bootstrap over queries" in text
    assert r"$^{\bigtriangleup}$ better, $^{\bigtriangledown}$ worse than the baseline, p \textless{} 0.05" in text
    assert "Not compared" not in text and "No records yet: Plain." in text


def test_a_row_that_cannot_be_compared_is_named(root: Path) -> None:
    write(root, "plain", 0, SURE, scored=False)
    text = marks(root)
    assert "Not compared, for want of scores of single queries or of common seeds: Plain." in text
    assert "| Plain† | **90.0** |" in text


def test_without_scores_or_baseline_there_is_no_mark_and_no_word_of_it(root: Path) -> None:
    records = [record for found in read(root)[0].values() for record in found]
    for spec, scores in ((SPEC, None), (SPEC | {"baseline": None}, read(root)[1])):
        rendered = render(spec, records, scores)
        assert not {"▲", "▼"} & set(rendered.markdown) and "ootstrap over" not in rendered.markdown
        assert all(line.endswith(",,,,,") for line in rendered.csv.splitlines()[1:])


def test_the_csv_tells_the_numbers(root: Path) -> None:
    rows, scores = read(root)
    spec = copy.deepcopy(SPEC)
    spec["blocks"][0]["columns"] = spec["blocks"][0]["columns"][:1]
    lines = render(spec, [record for found in rows.values() for record in found], scores).csv.splitlines()
    # All queries differ by 0.3 or 0.4: 40 draws of which lie around 0.35 with a deviation of 0.05 / sqrt(40).
    low, high, p, corrected = map(float, lines[1].split(",")[-4:])
    assert lines[1].startswith("sure,B,seen/p,2,0.9,0.0,,,,0.35,")
    assert (low, high) == pytest.approx((0.35 - 1.96 * 0.00791, 0.35 + 1.96 * 0.00791), abs=0.002)
    assert (p, corrected) == pytest.approx((2 / 10_001, 6 / 10_001), rel=1e-5)
    assert lines[4] == "flat,B,seen/p,2,0.55,0.0,,,,,,,,"


def test_scores_are_read_from_beside_the_records(root: Path, tmp_path: Path) -> None:
    experiments = tmp_path / "experiments"
    (experiments / "digits").mkdir(parents=True)
    (experiments / "digits" / "table.yaml").write_text(yaml.safe_dump(SPEC))
    rows, scores = read(root)
    expected = render(SPEC, [record for found in rows.values() for record in found], scores)
    assert make_table("digits", experiments, root) == expected
    (root / "digits" / "sure" / "seed0.queries.safetensors").unlink()
    with pytest.raises(InputError, match=r"missing in .*sure/seed0\.queries\.safetensors"):
        make_table("digits", experiments, root)
