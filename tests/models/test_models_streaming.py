"""One checkpoint a layer at a time, and many of them."""

import errno
import io
import json
import mmap
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from peace.aggregators.transformer import Transformer
from peace.encoders.graphsage import GraphSAGE
from peace.encoders.layer_gnn import LayerGNN
from peace.encoders.network_gnn import NetworkGNN
from peace.errors import InputError
from peace.graph.assembly import from_group
from peace.graph.derive import derive
from peace.graph.layer_reading import read_layers
from peace.graph.reading import Reading
from peace.interruption import Interrupted
from peace.models import collecting, streaming
from peace.models.collecting import embed_collection
from peace.models.embedder import Embedder, HeadConfig, RegressionConfig
from peace.models.loading import single
from peace.models.streaming import embed_checkpoint
from peace.zoo.architectures import build
from peace.zoo.checkpoint import open_checkpoint
from peace.zoo.collection import collection
from peace.zoo.stored import StoredWeights

CNN = {"name": "cnn", "input_shape": [1, 6, 6], "outputs": 3, "activation": "relu", "channels": [4], "kernels": [3],
       "pools": [2], "hidden": [5]}  # fmt: skip


def embedder(encoder: nn.Module, reading: Reading | None = None) -> Embedder:
    torch.manual_seed(0)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    aggregator = Transformer(encoder.output_dim, 16, num_heads=2)
    return Embedder(reading or Reading(), encoder, aggregator, 16, HeadConfig(), RegressionConfig()).eval()


def written(path: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 5), nn.LayerNorm(5))
    save_file({name: tensor + 0.1 * torch.randn(tensor.shape) for name, tensor in module.state_dict().items()
               if tensor.is_floating_point()}, path)  # fmt: skip
    return path


@pytest.mark.parametrize("reading", [Reading(), Reading(normalise="frobenius"), Reading(False, False)])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-10), (torch.float32, 0.0)])
def test_a_layer_at_a_time_gives_what_the_whole_gives(
    tmp_path: Path, reading: Reading, dtype: torch.dtype, close: float
) -> None:
    checkpoint = open_checkpoint(written(tmp_path / "m.safetensors"))
    made = embedder(LayerGNN(8, 2), reading).to(dtype)
    weights = StoredWeights(checkpoint, dtype)
    stack = read_layers(weights.shapes).stack({name: weight[None] for name, weight in weights.items()})
    read: list[int] = []
    found = embed_checkpoint(made, checkpoint, dtype, read.append)
    with torch.no_grad():
        assert (found.vector - made.embed([stack])[0]).abs().max() <= close
    assert (found.layers, found.n_params) == (5, sum(weight.numel() for weight in weights.values()))
    assert read == [896, 128, 180, 40] and sum(read) == 4 * found.n_params


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes are mapped each time that some more are."""
    alive: list[tuple[weakref.ref[object], int]] = []
    held: list[int] = []
    real, lock = mmap.mmap, threading.Lock()

    class Pages(real):  # type: ignore[misc,valid-type]
        def __init__(self, _: object, length: int, **__: object) -> None:
            with lock:
                alive.append((weakref.ref(self), length))
                held.append(sum(length for reference, length in alive if reference() is not None))

    monkeypatch.setattr(mmap, "mmap", Pages)
    return held


@pytest.mark.parametrize(
    ("reading", "at_once", "most"),
    [(Reading(), 2, 2), (Reading(normalise="frobenius"), 2, 1), (Reading(), 6, 6)],
    ids=["two", "one and its copy", "control"],
)
def test_no_more_than_the_two_largest_layers_are_held_at_once(
    reading: Reading, at_once: int, most: int, mapped: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, largest = tmp_path / "m.safetensors", 4 * 1024 * 1024
    tensors = {f"large.{place}.weight": torch.full((1024, 1024), 0.01) for place in range(12)}
    save_file(tensors | {f"small.{place}.weight": torch.full((64, 64), 0.01) for place in range(300)}, path)
    made = embedder(LayerGNN(8, 1), reading)
    monkeypatch.setattr(streaming, "_AT_ONCE", at_once)
    torch.set_num_threads(at_once)
    embed_checkpoint(made, open_checkpoint(path))
    # Each mapping begins at a page, and a portion of small ones has as many pages more.
    margin = 300 * mmap.PAGESIZE
    assert (most - 1) * largest < max(mapped) <= most * largest + margin
    assert len(mapped) == 312


def test_small_layers_go_together(tmp_path: Path) -> None:
    layers = [nn.Linear(128, 128), nn.LayerNorm(128), nn.Linear(128, 128), nn.Linear(128, 64), nn.Linear(64, 128)]
    path, read = tmp_path / "m.safetensors", []
    save_file(nn.Sequential(*layers, *(nn.LayerNorm(128) for _ in range(9))).state_dict(), path)
    found = embed_checkpoint(embedder(LayerGNN(8, 2)), open_checkpoint(path), told=read.append)
    assert (found.layers, len(read)) == (14, 5), "as many as the second largest one holds"


@pytest.mark.parametrize("error", [Interrupted("stop"), KeyboardInterrupt(), RuntimeError("no")])
def test_what_goes_wrong_between_layers_ends_it_at_once(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({f"{place}.weight": torch.randn(64, 64) for place in range(200)}, path)
    made, seen = embedder(LayerGNN(8, 1)), []
    torch.set_num_threads(2)

    def stop(_: int) -> None:
        raise error

    made.encoder.register_forward_hook(lambda *_: seen.append(1))
    with pytest.raises(type(error)):
        embed_checkpoint(made, open_checkpoint(path), told=stop)
    assert len(seen) < 100 and torch.get_num_threads() == 2


WHOLE = [lambda: NetworkGNN(8, 1), lambda: GraphSAGE(8, 1, reading="network")]


@pytest.mark.parametrize("encoder", WHOLE)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_model_of_a_zoo_is_read_as_in_its_zoo(
    encoder: Callable[[], nn.Module], activation: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = json.dumps({**CNN, "activation": activation})
    module, made, path = build(json.loads(config)), embedder(encoder()), tmp_path / "known.safetensors"
    save_file(module.state_dict(), path, metadata={"architecture_config": config})
    found = embed_checkpoint(made, open_checkpoint(path))
    with torch.no_grad():
        expected = made.embed([single(config, module.state_dict())])[0]
    torch.testing.assert_close(found.vector, expected)
    assert found.n_params == sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("encoder", WHOLE)
def test_an_encoder_of_whole_networks_reads_a_known_architecture(
    encoder: Callable[[], nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    module, made = build(CNN), embedder(encoder())
    known, bare = tmp_path / "known.safetensors", tmp_path / "bare.safetensors"
    save_file(module.state_dict(), known, metadata={"architecture_config": json.dumps(CNN)})
    save_file(module.state_dict(), bare)
    rebuilt = streaming.rebuild(open_checkpoint(known))
    monkeypatch.setattr(streaming, "rebuild", lambda _: rebuilt)  # as if a library knew the architecture
    found = embed_checkpoint(made, open_checkpoint(bare))
    group = derive(module, torch.zeros(1, 1, 6, 6))
    with torch.no_grad():
        stack = Reading().of_models(group, from_group(group), [module.state_dict()])
        expected = made.aggregator(made.encoder(stack))[0]
    torch.testing.assert_close(found.vector, expected, atol=1e-6, rtol=0)


@pytest.mark.slow  # it asks every family, and importing them takes seconds
def test_an_encoder_of_whole_networks_refuses_what_is_of_no_known_wiring(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the wiring is not known.*bare.*take a layer-wise encoder"):
        embed_checkpoint(embedder(NetworkGNN(8, 1)), open_checkpoint(written(tmp_path / "bare.safetensors")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "models"
    place.mkdir()
    for seed in range(5):
        written(place / f"m{seed}.safetensors", seed)
    (place / "broken.safetensors").write_bytes((place / "m0.safetensors").read_bytes()[:-9])
    return place


def test_several_at_a_time_give_what_one_gives_and_broken_ones_are_named(folder: Path, tmp_path: Path) -> None:
    made, entries = embedder(LayerGNN(8, 2)), collection(str(folder))
    one, three = (embed_collection(made, "e", entries, tmp_path / str(workers), workers) for workers in (1, 3))
    assert [entry.id for entry, _ in three.done] == [f"m{seed}.safetensors" for seed in range(5)]
    assert torch.equal(*(torch.stack([found.vector for _, found in made.done]) for made in (one, three)))
    assert one.broken.keys() == three.broken.keys() == {"broken.safetensors"}
    assert "a truncated safetensors file" in one.broken["broken.safetensors"]
    expected = embed_checkpoint(made, open_checkpoint(folder / "m3.safetensors"))
    assert torch.equal(three.done[3][1].vector, expected.vector) and three.done[3][1].layers == expected.layers


def test_what_is_done_is_not_done_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, entries, place = embedder(LayerGNN(8, 2)), collection(str(folder)), tmp_path / "kept"
    first = embed_collection(made, "e", entries, place)
    seen: list[Path] = []
    real = streaming.embed_checkpoint

    def counted(embedder: Embedder, checkpoint: object, **more: object) -> object:
        seen.append(checkpoint.path)  # type: ignore[attr-defined]
        return real(embedder, checkpoint, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(collecting, "embed_checkpoint", counted)
    again = embed_collection(made, "e", entries, place)
    assert seen == [] and len(again.done) == 5
    for (_, old), (_, new) in zip(first.done, again.done, strict=True):
        assert torch.equal(old.vector, new.vector) and (old.layers, old.n_params) == (new.layers, new.n_params)
    changed = [replace(entry, changed=entry.changed + (entry.id == "m2.safetensors")) for entry in entries]
    embed_collection(made, "e", changed, place)
    assert seen == [folder / "m2.safetensors"]
    embed_collection(made, "another", entries[-1:], place)
    assert seen[1:] == [folder / "m4.safetensors"]


def test_a_stop_keeps_what_is_done(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, entries, place = embedder(LayerGNN(8, 2)), collection(str(folder)), tmp_path / "kept"
    real = streaming.embed_checkpoint

    def stopped(embedder: Embedder, checkpoint: object, **more: object) -> object:
        if checkpoint.path.name == "m2.safetensors":  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGINT)
            # The main thread, which waits for the others, takes the signal in its own time.
            while not more["told"].stop.asked:  # type: ignore[attr-defined]
                time.sleep(0.01)
        return real(embedder, checkpoint, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(collecting, "embed_checkpoint", stopped)
        with pytest.raises(Interrupted, match="stopped with 2 of 6 checkpoints embedded; the same command goes on"):
            embed_collection(made, "e", entries, place)
    assert len(list(place.glob("*.safetensors"))) == 2
    assert len(embed_collection(made, "e", entries, place).done) == 5


def test_a_vector_that_cannot_be_kept_ends_it_and_no_checkpoint_is_called_broken(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, entries, place = embedder(LayerGNN(8, 2)), collection(str(folder)), tmp_path / "kept"

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(collecting, "write_safetensors", full)
        with pytest.raises(OSError, match="No space left on device"):
            embed_collection(made, "e", entries, place, workers=2)
    assert embed_collection(made, "e", entries, place).broken.keys() == {"broken.safetensors"}


@pytest.mark.parametrize("workers", [1, 3])
def test_the_bar_ends_at_the_end_though_a_file_is_broken(
    workers: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars: list[tqdm] = []

    def shown(**more: object) -> tqdm:
        bars.append(tqdm(**more | {"disable": False, "file": io.StringIO()}))
        return bars[-1]

    monkeypatch.setattr(collecting, "tqdm", shown)
    entries = collection(str(folder))
    embed_collection(embedder(LayerGNN(8, 2)), "e", entries, tmp_path / "kept", workers)
    assert bars[0].n == bars[0].total == sum(entry.size for entry in entries)
