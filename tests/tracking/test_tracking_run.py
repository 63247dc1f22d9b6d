"""One run whatever happens to it: stopped and started again, without a network, with wandb's own process killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tracked_log import Log, logs
from tracking_home import WORDS

from peace.errors import InputError
from peace.tracking.access import first_process, mode
from peace.tracking.artifacts import embedder, embeddings, index, table, zoo
from peace.tracking.labels import labels
from peace.tracking.run import Tracking
from peace.tracking.tell import UNTRACKED
from peace.training.module import Contrastive

Peace = Callable[..., tuple[int, str, str]]

BASELINE = [*WORDS, "producer=flat"]
CONFIG = {"tracking": {"name": "wandb"}, "zoo": {"name": "some"}, "seed": 0}


def test_a_training_that_is_stopped_goes_on_in_the_same_run(
    home: Path, peace: Peace, told: dict[str, Log], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(module: Contrastive, batch: object, place: int) -> None:
        if module.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    for path in (home / "runs").glob("tiny/*/seed0/*"):
        if path.name in ("last.ckpt", "embedder.json", "embedder.safetensors"):
            path.unlink()
    words = ["pretrain", *WORDS, "encoder.hidden_dim=16"]
    with monkeypatch.context() as patch:
        patch.setattr(Contrastive, "on_train_batch_start", stopped)
        assert peace(*words)[0] == 130
    assert peace(*words)[0] == 0
    first, second = logs(home)
    assert first.run.run_id == second.run.run_id != told["pretrain"].run.run_id
    assert first.path.parents[1] == second.path.parents[1]
    assert (first.exit_code, first.preempting) == (130, True) and (second.exit_code, second.preempting) == (0, False)
    assert [row["_step"] for row in first.history] == [0, 1, 2] and [row["_step"] for row in second.history] == [3]
    assert "model" not in first.made and "model" in second.made


def test_a_second_call_goes_on_in_the_same_run(home: Path, peace: Peace, told: dict[str, Log]) -> None:
    assert peace("pretrain", *WORDS)[0] == 0
    (log,) = logs(home)
    assert log.run.run_id == told["pretrain"].run.run_id
    gauges = {name: told["pretrain"].summary[name] for name in ("val/knn", "val/effective_rank")}
    assert {name: log.summary[name] for name in gauges} == pytest.approx(gauges)


@pytest.mark.parametrize("words", [["tracking=none"], []], ids=["none", "disabled"])
def test_what_is_not_tracked_writes_nothing_and_imports_nothing(
    home: Path, peace: Peace, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # to import it is an error now
    if not words:
        monkeypatch.setenv("WANDB_MODE", "disabled")
    code, _, said = peace("embed", *BASELINE, *words)
    assert code == 0 and "Weights & Biases" not in said
    assert [path for path in home.rglob("wandb") if path.is_dir()] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tracking=some"], "unknown tracking 'some'"),
        (["tracking.name=some"], "wrong type in tracking, key 'name': got 'some'"),
        (["tracking.projct=p"], "unknown key 'projct' in tracking; did you mean 'project'?"),
    ],
)
def test_a_wrong_word_is_refused_before_anything_runs(home: Path, peace: Peace, words: list[str], message: str) -> None:
    code, _, said = peace("embed", *BASELINE, *words)
    assert code == 2 and message in said and logs(home) == []
    assert not (home / "runs").joinpath("flat").exists()


def test_a_mode_that_does_not_exist_is_refused(home: Path, peace: Peace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    code, _, said = peace("embed", *BASELINE)
    assert code == 2 and "got sometimes, expected online, offline or disabled" in said
    with pytest.raises(InputError):
        mode()


def test_only_the_first_of_several_processes_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = ("RANK", "NODE_RANK", "LOCAL_RANK", "SLURM_PROCID")
    for name in names:
        monkeypatch.setenv(name, "0")
    for name in names:
        monkeypatch.setenv(name, "1")
        assert not first_process()
        monkeypatch.delenv(name)
    assert first_process()
    monkeypatch.setenv("LOCAL_RANK", "1")
    with Tracking(CONFIG, "zoo train", tmp_path) as tracked:
        assert tracked is UNTRACKED and not tracked
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, subprocess, sys
from pathlib import Path
from peace.tracking.run import Tracking

with Tracking({config}, "zoo train", Path("run")) as tracked:
    tracked.log({{"before": 1}}, 0)
    own = subprocess.run(["pgrep", "-P", str(os.getpid()), "wandb-core"], capture_output=True, text=True, check=True)
    os.kill(int(own.stdout), signal.{signal})
    while signal.{signal} == signal.SIGKILL and tracked:
        tracked.log({{"after": 1}}, 1)
    tracked.summarise({{"last": 2}})
print("the work is done", bool(tracked))
"""


def survivor(folder: Path, number: str) -> subprocess.CompletedProcess[str]:
    program = KILLED.format(config=CONFIG, signal=number)
    return subprocess.run([sys.executable, "-c", program], cwd=folder, text=True, capture_output=True, check=False)


def test_work_goes_on_when_wandb_s_process_is_killed_and_says_so(home: Path, tmp_path: Path) -> None:
    finished = survivor(tmp_path, "SIGKILL")
    assert (finished.returncode, finished.stdout) == (0, "the work is done False\n"), finished.stderr
    said = finished.stderr.splitlines()
    assert said[0].startswith("peace: Weights & Biases failed in logging: ")
    assert said[1] == "peace: the work goes on; the rest of it is not tracked"
    assert len(said) == 4 and all(line.startswith("peace: ") for line in said), finished.stderr


@pytest.mark.slow
def test_a_scheduler_s_warning_to_all_processes_does_not_end_wandb_s(home: Path, tmp_path: Path) -> None:
    finished = survivor(tmp_path, "SIGUSR1")
    assert (finished.returncode, finished.stdout) == (0, "the work is done True\n"), finished.stderr
    (log,) = logs(tmp_path)
    assert log.summary["last"] == 2 and log.exit_code == 0


@pytest.mark.slow
def test_without_a_network_a_run_is_recorded_for_later(home: Path) -> None:
    environment = {**os.environ, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": 40 * "a",
                   "WANDB_INIT_TIMEOUT": "2"}  # fmt: skip
    finished = subprocess.run([sys.executable, "-m", "peace.cli", "embed", *BASELINE], env=environment, text=True,
                              capture_output=True, check=False)  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert "peace: Weights & Biases failed in starting the run online: " in finished.stderr
    assert "peace: the run is recorded offline; `peace sync` uploads it" in finished.stderr
    (log,) = logs(home)
    assert log.summary["models"] == 32 and log.made["embeddings"].name.startswith("embeddings-tiny-")


def test_a_group_is_the_experiment_without_slashes() -> None:
    assert labels(CONFIG, "zoo train")["group"] == "some"
    for experiment, group in (("demo", "demo"), ("paper/table1", "paper-table1"), ("x" * 200 + "/y", "x" * 126 + "-y")):
        assert labels({**CONFIG, "experiment": experiment}, "embed")["group"] == group


def test_names_of_artifacts_are_ones_that_wandb_takes() -> None:
    made = embedder(Path("runs") / "a@b=c,d" / "0123456789ab" / "seed3", "a@b=c,d")
    assert made.name == "embedder-a_b_c_d-0123456789ab-seed3"
    nested = Path("runs") / "paper" / "table1" / "0123456789ab" / "seed3"
    for kind in (embedder, embeddings, index):
        assert kind(nested, "paper/table1").name == f"{kind.__name__}-paper-table1-0123456789ab-seed3"
    assert table("paper/table1").name == "table-paper-table1" and table("demo").name == "table-demo"
    long = zoo(Path("zoos") / ("x" * 200) / "0123456789ab")
    assert len(long.name) == 128 and long.name.startswith("zoo-x") and long.name.endswith("-0123456789ab")
