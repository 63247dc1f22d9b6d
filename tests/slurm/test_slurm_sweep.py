"""A sweep in a real Slurm, from `--submit` over a failure and its repair to the table."""

import re

import pytest
import torch
from slurm_home import Line
from slurm_story import Story

from peace.embeddings.table import EmbeddingTable

pytestmark = pytest.mark.slow

# The manifest: a zoo, two trainings, four parts of a zoo and their joining, five embeddings in one piece, six
# evaluations, a table. Numbers of the line that the typing error stops, and of those that depend on it.
FAILED, BLOCKED = [11], [17, 20]
LINES = range(1, 21)


def states(lines: list[Line]) -> dict[int, str]:
    return {int(line.number): line.state for line in lines}


def test_each_step_is_one_throttled_array_after_those_that_it_needs(story: Story) -> None:
    arrays = {}
    for text in story.submitted.split("\n\n"):
        told = dict(re.findall(r"(\w+)=(\S+)", text))
        assert told.get("ArrayTaskThrottle", "3") == "3"
        if told:
            arrays[int(told["ArrayJobId"])] = told["JobName"], re.findall(r"afterany:(\d+)_", told["Dependency"])
    assert arrays == {
        1: ("peace-tiny-zoo", []), 2: ("peace-tiny-pretrain", ["1"]), 3: ("peace-tiny-embed", ["1", "2"]),
        4: ("peace-tiny-embed", ["1", "2", "3"]), 5: ("peace-tiny-embed", ["1", "2"]), 6: ("peace-tiny-embed", ["1"]),
        7: ("peace-tiny-evaluate", ["1", "2", "3", "4", "5", "6"]),
        8: ("peace-tiny-table", ["1", "2", "3", "4", "5", "6", "7"]),
    }  # fmt: skip


def test_status_tells_what_runs_and_what_waits(story: Story) -> None:
    found = states(story.underway)
    assert [found[number] for number in (1, 2, 3)] == ["done", "running", "running"]
    assert {found[number] for number in (*range(4, 10), *range(14, 21))} == {"pending"}
    assert [line.job for line in story.underway[:3]] == ["1_1", "2_2", "2_3"]


def test_a_failure_stops_what_depends_on_it_and_nothing_else(story: Story) -> None:
    expected = dict.fromkeys(LINES, "done") | dict.fromkeys(FAILED, "failed") | dict.fromkeys(BLOCKED, "blocked")
    assert states(story.failed) == expected
    (line,) = [line for line in story.failed if line.state == "failed"]
    assert line.job == "6_11" and line.command.startswith("peace embed ") and "row.method=statistics" in line.command
    log = (story.home.path / line.log).read_text()
    assert "unknown baseline 'statistic'; did you mean 'statistics'?" in log


def test_what_failed_is_run_again_after_the_repair_and_only_that(story: Story) -> None:
    assert story.resubmitted.startswith("3 commands in 3 arrays: ")
    assert states(story.repaired) == dict.fromkeys(LINES, "done")
    again = [int(new.number) for old, new in zip(story.failed, story.repaired, strict=True) if old.job != new.job]
    assert again == FAILED + BLOCKED


def test_the_table_is_that_of_the_same_sweep_on_this_machine(story: Story) -> None:
    tables = story.home.tables()
    assert sorted(tables) == ["tiny.csv", "tiny.md", "tiny.tex"]
    assert tables == story.reference.tables()
    assert tables["tiny.md"].count(b"\n| ") == 8, "a head, six methods, chance"


@pytest.mark.parametrize("name", ["embeddings", "copies"])
def test_four_parts_of_a_zoo_are_embedded_as_the_whole_is(story: Story, name: str) -> None:
    parts, whole = (
        EmbeddingTable.load(home.run("peace") / f"{name}.safetensors") for home in (story.home, story.reference)
    )
    assert len(whole.rows) == 32 and parts.rows.equals(whole.rows)
    assert torch.equal(parts.vectors, whole.vectors)
    assert len(list((story.home.run("peace") / "parts").iterdir())) == 4
    assert not (story.reference.run("peace") / "parts").exists()
