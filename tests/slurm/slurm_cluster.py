"""A real Slurm of one node on loopback: a munged, a slurmctld and a slurmd of its own, all in one temporary folder."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
_PATIENCE = 30

# A requeued job waits until the credential of its last start has expired: 120 s by default, 5 s at least. The scheduler
# is told to look at the queue at once and each second; where it may believe that there are more processors than it
# finds, tasks that wait for something else than a processor do not hold up the others.
_CONFIG = """
ClusterName=local
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={control_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=1,bf_interval=1
KillWait=30
MessageTimeout=60
MpiDefault=none
ReturnToService=2
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """What this machine lacks for a Slurm of its own, None if nothing."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    if absent:
        return f"no {', '.join(absent)}: install slurm-wlm and munge"
    return None if os.geteuid() == 0 else "not root, which slurmd has to be"


@contextmanager
def cluster(cpus: int) -> Iterator[dict[str, str]]:
    """Yields the environment in which Slurm's commands reach a cluster that lives as long as the block.

    A process of its own keeps the daemons. It takes them down when the pipe from here closes, so also where this
    process is killed.

    Args:
        cpus: Of its only node; they need not exist.

    Raises:
        RuntimeError: A daemon does not start; the message ends with what all of them logged.
    """
    command, pipe = [sys.executable, __file__, str(cpus)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as keeper:
        assert keeper.stdin and keeper.stdout and keeper.stderr
        if not (configuration := keeper.stdout.readline().strip()):
            raise RuntimeError(keeper.stderr.read())
        try:
            yield {**os.environ, "PATH": _PATH, "SLURM_CONF": configuration}
        finally:
            keeper.stdin.close()


@contextmanager
def _daemons(cpus: int) -> Iterator[Path]:
    """Yields the configuration of a cluster whose daemons live as long as the block."""
    # Not pytest's folder, which belongs to root alone: munged runs as a user of its own.
    folder = Path(tempfile.mkdtemp(prefix="peace-slurm-", dir="/tmp"))
    folder.chmod(0o755)
    configuration = folder / "slurm.conf"
    environment = {**os.environ, "PATH": _PATH, "SLURM_CONF": str(configuration)}
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            _start_munge(folder, stack)
            _configure(configuration, cpus)
            stack.callback(_kill_what_is_left, configuration)
            for name in ("slurmctld", "slurmd"):
                _start([name, "-D"], folder, stack, env=environment)
            _wait(lambda: _answer(environment, "sinfo", "--noheader", "--format=%T") == "idle", "the node to be idle")
        except Exception as error:
            raise RuntimeError(f"Slurm did not start: {error}\n{_logs(folder)}") from error
        stack.callback(_cancel_all, environment)
        yield configuration


def _start_munge(folder: Path, stack: ExitStack) -> None:
    home = folder / "munge"
    home.mkdir(mode=0o755)
    (home / "key").write_bytes(os.urandom(128))
    (home / "key").chmod(0o600)
    shutil.chown(home, "munge", "munge")
    shutil.chown(home / "key", "munge", "munge")
    places = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    options = [f"--{option}={home / name}" for option, name in places.items()]
    _start(["munged", "--foreground", *options], folder, stack, user="munge", group="munge", extra_groups=[])
    _wait((home / "socket").exists, "munged's socket")


def _configure(configuration: Path, cpus: int) -> None:
    folder, host = configuration.parent, socket.gethostname().partition(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir(mode=0o755)
    control_port, node_port = _free_ports(2)
    configuration.write_text(
        _CONFIG.format(folder=folder, control_port=control_port, node_port=node_port, host=host, cpus=cpus)
    )


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _start(command: Sequence[str], folder: Path, stack: ExitStack, **how: object) -> None:
    """Starts a daemon that ends with the stack, or at once if it does not survive its first moments."""
    program = str(shutil.which(command[0], path=_PATH))
    with (folder / f"{command[0]}.out").open("w") as out:
        daemon = subprocess.Popen(
            [program, *command[1:]], stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True, **how
        )  # type: ignore[call-overload]
    stack.callback(_stop, daemon)
    time.sleep(0.2)
    if daemon.poll() is not None:
        raise RuntimeError(f"{command[0]} ended with exit code {daemon.returncode}")


def _stop(daemon: subprocess.Popen) -> None:
    daemon.terminate()
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _wait(until: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not until():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {_PATIENCE} s for {what}")
        time.sleep(0.1)


def _answer(environment: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout.strip()


def _cancel_all(environment: dict[str, str]) -> None:
    for signalled in ([], ["--signal=KILL", "--full"]):
        _answer(environment, "scancel", "--user=root", *signalled)


def _kill_what_is_left(configuration: Path) -> None:
    """Kills what runs with this cluster's configuration: steps outlive the daemons that started them."""
    mark = f"SLURM_CONF={configuration}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes().split(b"\0"):
                os.kill(int(path.parent.name), signal.SIGKILL)
        except OSError:  # it has ended meanwhile
            continue


def _logs(folder: Path) -> str:
    paths = [*folder.glob("*.out"), *folder.glob("*.log"), folder / "munge" / "log"]
    tails = {path.name: path.read_text(errors="replace").splitlines()[-15:] for path in paths if path.is_file()}
    return "\n".join(f"--- {name}\n" + "\n".join(lines) for name, lines in tails.items() if lines)


if __name__ == "__main__":
    with _daemons(int(sys.argv[1])) as configuration:
        print(configuration, flush=True)
        sys.stdin.read()
