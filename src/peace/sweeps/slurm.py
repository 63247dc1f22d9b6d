"""A sweep in Slurm: one array a step, which starts when the arrays that it depends on have ended."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from peace.config import folder
from peace.errors import InputError, PeaceError
from peace.sweeps.spec import Task
from peace.sweeps.state import SweepFolder

_TEMPLATES = ("zoo", "pretrain", "embed")


def submit(sweep: SweepFolder, tasks: Sequence[Task], selected: Sequence[Task], throttle: int | None) -> list[str]:
    """Sends tasks to Slurm and returns the ids of the arrays.

    An array waits until the arrays before it have ended, well or not: each task itself looks whether all that it
    depends on is done, so that one failure stops only what depends on it.

    Args:
        sweep: Where states and logs go.
        tasks: The whole manifest.
        selected: What is to be run.
        throttle: How many tasks of an array may run at a time.

    Raises:
        InputError: There is no Slurm here.
        PeaceError: Slurm refused a job; those sent before it are cancelled.
    """
    if shutil.which("sbatch") is None:
        raise InputError("no `sbatch` on this machine", do="log in to the cluster, or run the sweep with --local")
    manifest, jobs = sweep.save(tasks).resolve(), dict[str, list[int]]()
    (sweep.path / "logs").mkdir(parents=True, exist_ok=True)
    known = [(task, sweep.read(task), sweep.job(task)) for task in selected]
    waiting = queue()
    others = {sweep.job(task): [task.number] for task in tasks if task not in selected}
    under_way = {job: numbers for job, numbers in others.items() if job in waiting}
    try:
        for array, offset in _arrays(selected, _longest_array()):
            for task in array:
                sweep.write(task, "waiting")
            before = _before(array, {**jobs, **under_way})
            job = _sbatch(sweep, manifest, array, offset, before, throttle)
            jobs[job] = [task.number for task in array]
            for task in array:
                sweep.submitted(task, f"{job}_{task.number - offset}")
    except BaseException:
        if jobs:
            subprocess.run(["scancel", *jobs], check=False)
        for task, content, job in known:
            sweep.restore(task, content, job)
        raise
    # Their old jobs still wait for what failed, and would find it not done.
    if stale := [job for _, _, job in known if job in waiting]:
        subprocess.run(["scancel", *stale], check=False)
    return list(jobs)


def _arrays(selected: Sequence[Task], longest: int) -> Iterator[tuple[list[Task], int]]:
    """Tasks of one step whose numbers, less the offset, Slurm takes as indices."""
    for (_, block), tasks in groupby(selected, lambda task: (task.step, (task.number - 1) // longest)):
        yield list(tasks), block * longest


def _longest_array() -> int:
    """The largest index that this Slurm takes, which is one less than its MaxArraySize."""
    for line in _call("scontrol", "show", "config").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "MaxArraySize":
            return int(value) - 1
    raise PeaceError("`scontrol show config` does not say MaxArraySize")


def _before(array: Sequence[Task], jobs: Mapping[str, Sequence[int]]) -> list[str]:
    """Those of the jobs, each with the numbers of its tasks, that the array has to wait for."""
    needed = {number for task in array for number in task.after}
    return [job for job, numbers in jobs.items() if needed.intersection(numbers)]


def _sbatch(
    sweep: SweepFolder, manifest: Path, array: Sequence[Task], offset: int, before: Sequence[str], throttle: int | None
) -> str:
    verb = array[0].verb
    step = verb if verb in _TEMPLATES else "evaluate"
    indices = ",".join(str(task.number - offset) for task in array) + (f"%{throttle}" if throttle else "")
    options = [f"--job-name=peace-{manifest.parents[1].name}-{verb}", f"--array={indices}"]
    options.append(f"--output={sweep.path.resolve() / 'logs'}/slurm-%A_%a.log")
    options += [f"--dependency=afterany:{':'.join(before)}"] if before else []
    home = folder("slurm")
    return _call("bash", str(home / "submit.sh"), step, *options, str(home / f"{step}.sbatch"), str(manifest),
                 str(offset)).strip().partition(";")[0]  # fmt: skip


def queue() -> dict[str, str]:
    """Returns the state of each of the user's jobs by id, `ARRAY_INDEX` for tasks of an array.

    Raises:
        InputError: There is no Slurm here.
        PeaceError: Slurm does not answer.
    """
    if shutil.which("squeue") is None:
        raise InputError(
            "no `squeue` on this machine, but the sweep was sent to Slurm",
            do="ask on the cluster, or delete runs/EXPERIMENT/sweep to begin anew",
        )
    user = ["--user", str(os.getuid())]
    lines = _call("squeue", "--noheader", "--array", "--format=%i %T", *user).split("\n")
    return dict(line.split(maxsplit=1) for line in lines if line.strip())


def _call(*command: str) -> str:
    environment = {"PEACE_PYTHON": sys.executable, **os.environ}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise PeaceError(f"Slurm refused: {' '.join(done.stderr.split()) or command[0]}")
    return done.stdout
