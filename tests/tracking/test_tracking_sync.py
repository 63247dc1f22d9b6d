"""`peace sync` against a server on this machine that answers as W&B does: what it is sent, and in which order."""

import gzip
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import wandb
from tracking_home import entered

from peace.tracking.upload import waiting

Peace = Callable[..., tuple[int, str, str]]


class Server(ThreadingHTTPServer):
    """Notes the name and the variables of every query, and the lines of every history."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str]] = []
        self.histories: list[tuple[str, list[dict[str, float]]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"]))
        sent = json.loads(gzip.decompress(content) if self.headers["content-encoding"] == "gzip" else content)
        answer: dict[str, object] = {}
        if self.path.endswith("file_stream"):
            lines = sent.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
            self.server.histories.append((self.path.split("/")[3], [json.loads(line) for line in lines]))
        else:
            self.server.asked.append((sent["operationName"], sent.get("variables", {}).get("name", "")))
            if sent["operationName"] == "CreateRunFiles":
                answer = {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": []}}
        text = json.dumps({"data": answer}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder with three offline runs: `first` in two parts, and `second` between them."""
    with entered(tmp_path):
        os.environ.pop("PEACE_HOME")
        for folder, name, steps in (("runs/a", "first", (0, 1)), ("runs/b", "second", (0,)), ("runs/a", "first", (2,))):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            time.sleep(1.0)  # the folder of a run is named after its second
            settings = wandb.Settings(console="off", silent=True, x_disable_machine_info=True, x_disable_stats=True)
            with wandb.init(project="peace", id=name, mode="offline", dir=tmp_path / folder, settings=settings) as run:
                for step in steps:
                    run.log({"loss": step}, step=step)
        yield tmp_path


def synced(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "WANDB_BASE_URL": server.url, "WANDB_API_KEY": 40 * "a"}
    return subprocess.run([sys.executable, "-m", "peace.cli", "sync", *arguments], env=environment, text=True,
                          capture_output=True, check=False)  # fmt: skip


@pytest.mark.slow
def test_runs_are_uploaded_in_order_and_a_second_part_is_added_to_the_first(place: Path, server: Server) -> None:
    finished = synced(server)
    assert (finished.returncode, finished.stdout) == (0, "3 runs uploaded\n"), finished.stderr
    assert [name for query, name in server.asked if query == "RunResumeStatus"] == ["first", "second", "first"]
    lines = [(run, line["loss"]) for run, history in server.histories for line in history]
    assert lines == [("first", 0), ("first", 1), ("second", 0), ("first", 2)]
    assert waiting(place) == []


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Path]:
    """A folder with logs of that name, of which one was uploaded."""
    with entered(tmp_path):
        os.environ.pop("PEACE_HOME")
        for folder, second in (("runs/tiny/a/seed0", 3), ("runs/tiny/a/seed0", 1), ("runs/zoos/demo/b", 2)):
            run = tmp_path / folder / "wandb" / f"offline-run-20260101_00000{second}-id"
            run.mkdir(parents=True)
            (run / "run-id.wandb").touch()
        (run / "run-id.wandb.synced").touch()
        yield tmp_path


def test_what_waits_is_found_in_the_order_in_which_it_began(recorded: Path) -> None:
    found = [path.parent.name for path in waiting(recorded)]
    assert found == ["offline-run-20260101_000001-id", "offline-run-20260101_000003-id"]


def test_without_a_key_it_says_so(recorded: Path, peace: Peace) -> None:
    code, _, said = peace("sync")
    assert code == 2 and "no key of Weights & Biases to upload 2 runs with; run `wandb login`" in said
    assert len(waiting(recorded)) == 2


def test_where_nothing_waits_it_says_so(recorded: Path, peace: Peace) -> None:
    assert peace("sync", "runs/zoos") == (0, "nothing to upload in runs/zoos\n", "")
    assert peace("sync", "paths.runs=none") == (0, "nothing to upload in none\n", "")
    code, _, said = peace("sync", "nowhere")
    assert code == 2 and "no such folder: got nowhere" in said
