import shutil
from pathlib import Path

import pytest

from peace.errors import InputError
from peace.sweeps.spec import Task, manifest

SWEEP = """
seeds: [0, 1]
words: trainer=demo
axes:
  method: {ours: "", flat: producer=flat}
steps:
  - {command: peace zoo train demo, once: seed}
  - {command: peace pretrain, only: {method: [ours]}}
  - {command: peace embed, shards: 2}
  - {command: peace table tiny, once: experiment}
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    (tmp_path / "experiments" / "tiny").mkdir(parents=True)
    (tmp_path / "experiments" / "tiny" / "sweep.yaml").write_text(SWEEP)
    monkeypatch.setenv("PEACE_HOME", str(tmp_path))
    return manifest("tiny", words=["paths.runs=a b"])


def test_lines_are_what_a_person_would_type(tasks: list[Task]) -> None:
    assert [task.line for task in tasks[:5]] == [
        "peace zoo train demo seed=0 'paths.runs=a b'",
        "peace zoo train demo seed=1 'paths.runs=a b'",
        "peace pretrain experiment=tiny row.method=ours seed=0 trainer=demo 'paths.runs=a b'",
        "peace pretrain experiment=tiny row.method=ours seed=1 trainer=demo 'paths.runs=a b'",
        "peace embed experiment=tiny row.method=ours seed=0 trainer=demo 'paths.runs=a b' embed.shard=1/2",
    ]
    assert [task.line.split()[-1] for task in tasks[4:-1]] == ["embed.shard=1/2", "embed.shard=2/2"] * 4 + [
        "embed.merge=2"
    ] * 4
    assert tasks[-1].line == "peace table tiny 'paths.runs=a b'"


def test_numbers_run_from_one_and_an_array_is_a_step(tasks: list[Task]) -> None:
    assert [task.number for task in tasks] == list(range(1, 18))
    assert [task.step for task in tasks] == [0, 0, 1, 1, *[2] * 8, *[3] * 4, 4]
    assert [task.verb for task in tasks] == ["zoo"] * 2 + ["pretrain"] * 2 + ["embed"] * 12 + ["table"]


def test_a_command_comes_after_those_of_its_own_seed_and_point(tasks: list[Task]) -> None:
    after = {task.number: task.after for task in tasks}
    assert (after[1], after[2]) == ((), ())
    assert (after[3], after[4]) == ((1,), (2,))
    # Lines 5 to 12: shards of (seed 0: ours, flat), (seed 1: ours, flat); only `ours` is trained.
    assert [after[number] for number in range(5, 13)] == [(1, 3)] * 2 + [(1,)] * 2 + [(2, 4)] * 2 + [(2,)] * 2
    # Lines 13 to 16 join the shards.
    assert after[13] == (1, 3, 5, 6) and after[14] == (1, 7, 8) and after[16] == (2, 11, 12)
    assert after[17] == tuple(range(1, 17))


def test_what_runs_once_comes_before_all_later_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "experiments" / "shared").mkdir(parents=True)
    text = "seeds: [3, 4]\nsteps: [{command: peace zoo train demo, once: experiment}, {command: peace embed}]"
    (tmp_path / "experiments" / "shared" / "sweep.yaml").write_text(text)
    monkeypatch.setenv("PEACE_HOME", str(tmp_path))
    assert [(task.line, task.after) for task in manifest("shared")] == [
        ("peace zoo train demo", ()),
        ("peace embed experiment=shared seed=3", (1,)),
        ("peace embed experiment=shared seed=4", (1,)),
    ]


def test_the_training_of_a_zoo_gets_only_words_that_it_knows(tasks: list[Task]) -> None:
    found = manifest("tiny", [0], ["trainer.max_steps=3", "zoo.seeds=2", "tracking=none"])
    assert found[0].line == "peace zoo train demo seed=0 zoo.seeds=2 tracking=none"
    assert found[1].line.endswith("trainer=demo trainer.max_steps=3 zoo.seeds=2 tracking=none")


def test_an_experiment_may_lie_in_a_folder_of_experiments(tasks: list[Task], tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "experiments" / "tiny", tmp_path / "experiments" / "paper" / "tiny")
    found = manifest("paper/tiny", words=["paths.runs=a b"])
    assert [task.line for task in found] == [task.line.replace("=tiny", "=paper/tiny") for task in tasks]
    with pytest.raises(InputError, match=r"no experiment 'paper/tny' in .*; did you mean 'paper/tiny'\?"):
        manifest("paper/tny")
    with pytest.raises(InputError, match=r"not the name of an experiment: got 'paper/\.\./tiny'"):
        manifest("paper/../tiny")


def test_a_repeated_seed_is_refused(tasks: list[Task]) -> None:
    with pytest.raises(InputError, match="a seed stands more than once"):
        manifest("tiny", [3, 3])


def test_keys_are_a_pure_function_of_the_line() -> None:
    tasks = [Task(1, 0, "python experiments/speed/measure.py seed=0", ()),
             Task(9, 4, "python experiments/speed/measure.py seed=0", (1,)),
             Task(2, 0, "python experiments/speed/measure.py seed=1", ())]  # fmt: skip
    assert tasks[0].verb == "measure" and tasks[0].key.startswith("measure-")
    assert tasks[0].key == tasks[1].key != tasks[2].key
    assert Task(1, 0, "touch reached", ()).verb == "touch"


@pytest.mark.parametrize("shards", ["0", "two", "[2]"])
def test_senseless_shards_are_refused(shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "experiments" / "bad").mkdir(parents=True)
    text = f"seeds: [0]\nsteps: [{{command: peace embed, shards: {shards}}}]"
    (tmp_path / "experiments" / "bad" / "sweep.yaml").write_text(text)
    monkeypatch.setenv("PEACE_HOME", str(tmp_path))
    with pytest.raises(InputError, match="wrong value of 'shards'"):
        manifest("bad")
