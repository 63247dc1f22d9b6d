"""Checkpoints to be embedded, and what embedding one takes: seconds, operations, memory."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from peace import seeding
from peace.config import compose
from peace.encoders import ENCODERS, LayerEncoder
from peace.encoders.edge_list import EdgeListEncoder
from peace.encoders.layer_gnn import LayerGNN
from peace.graph.layer_reading import read_layers
from peace.models.embedder import Embedder, build_embedder
from peace.models.streaming import embed_checkpoint
from peace.zoo.checkpoint import open_checkpoint
from peace.zoo.readers import write_safetensors
from peace.zoo.stored import StoredWeights

REPEATS = 5
"""Timings of which the median counts."""

_SIDE = 2048

Shape = Sequence[int]


def _attention(query: Shape, key: Shape, value: Shape, *_: object, out_shape: object = None, **__: object) -> int:
    return sdpa_flop_count(query, key, value)


# On a CPU torch does not count it by itself.
_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}


def image_network(name: str, path: Path, seed: int) -> None:
    """Writes one of timm's networks with random weights as safetensors."""
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = timm.create_model(name).state_dict()
    write_safetensors(path, {key: value for key, value in state.items() if value.is_floating_point()}, {})


def transformer(folder: Path, width: int, blocks: int, seed: int) -> int:
    """Writes a checkpoint in shards, one for each block of a transformer, and returns its number of parameters."""
    generator = seeding.generator("transformer", width, blocks, seed)
    shapes = {"attn.qkv": (3 * width, width), "attn.proj": (width, width), "mlp.fc1": (4 * width, width),
              "mlp.fc2": (width, 4 * width)}  # fmt: skip
    files: dict[str, str] = {}
    count = 0
    for block in range(blocks):
        tensors = {}
        for name, shape in shapes.items():
            tensors[f"blocks.{block}.{name}.weight"] = torch.randn(shape, generator=generator) / shape[1] ** 0.5
            tensors[f"blocks.{block}.{name}.bias"] = torch.randn(shape[0], generator=generator) / shape[1] ** 0.5
        file = f"model-{block:05d}.safetensors"
        write_safetensors(folder / file, tensors, {})
        files |= dict.fromkeys(tensors, file)
        count += sum(tensor.numel() for tensor in tensors.values())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    return count


def streamed(encoders: Sequence[str]) -> list[str]:
    """Returns those encoders that read a checkpoint layer by layer.

    Left out are also those that hold several vectors for every weight: they are made for small networks.
    """
    kinds = {name: ENCODERS.get(name) for name in encoders}
    return [name for name, kind in kinds.items()
            if issubclass(kind, LayerEncoder) and not issubclass(kind, EdgeListEncoder)]  # fmt: skip


def embedder(encoder: str, seed: int) -> Embedder:
    """Returns an untrained embedder with the default arguments of an encoder and the default reading."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_embedder(compose("pretrain", [f"encoder={encoder}"])).eval()


def median_seconds(work: Callable[[], object]) -> float:
    """Returns the median of the seconds of some work that was done once before, which warms the file cache as well."""
    work()
    found = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def operations(made: Embedder, path: Path) -> int:
    """Returns how many multiplications and additions embedding a checkpoint takes in matrix products."""
    weights = StoredWeights(open_checkpoint(path))
    stack = read_layers(weights.shapes).stack({name: weight[None] for name, weight in weights.items()})
    # All layers in this thread: the counter does not see what others do.
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_ATTENTION) as counter:
        made.embed([stack])
    return counter.get_total_flops()


def operations_as_written(encoder: LayerGNN, path: Path) -> int:
    """Returns how many operations `layer_gnn` takes of a checkpoint as it is defined, every node with its own message.

    In each step a message along every weight, both ways, and two perceptrons of two layers on every node; the encoder
    takes fewer where nodes are alike.
    """
    graph, h = read_layers(StoredWeights(open_checkpoint(path)).shapes).graph(), encoder.output_dim
    per_step = 0
    for layer in graph.layers:
        n_out, n_in = graph.axes[layer.out_axis].size, graph.axes[layer.in_axis].size
        per_step += 4 * h * n_out * n_in * layer.n_tap + 8 * h**2 * (n_out + n_in)
    return encoder.graph.made["shared"].num_layers * per_step


def bare_product(count: int) -> Callable[[], object]:
    """Returns the work of one product of matrices with that many operations: [2048, 2048] with [2048, n]."""
    columns = max(1, round(count / (2 * _SIDE**2)))
    left, right = torch.randn(_SIDE, _SIDE), torch.randn(_SIDE, columns)
    out = torch.empty(_SIDE, columns)
    return lambda: torch.mm(left, right, out=out)


def peak_bytes(encoder: str, path: Path, seed: int) -> int:
    """Returns by how much embedding a checkpoint raises the largest resident memory of a fresh process."""
    command = [sys.executable, __file__, encoder, str(path), str(seed), str(torch.get_num_threads())]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _peak(encoder: str, path: Path, seed: int, threads: int) -> int:
    """What `peak_bytes` measures, in the process itself."""
    torch.set_num_threads(threads)
    made = embedder(encoder, seed)
    # The libraries' own buffers are there after a first, small checkpoint.
    small = path.with_name("small.safetensors")
    write_safetensors(small, {"0.weight": torch.randn(64, 64), "0.bias": torch.randn(64)}, {})
    embed_checkpoint(made, open_checkpoint(small))
    # The largest so far is that of the imports: Linux forgets it when asked to.
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    embed_checkpoint(made, open_checkpoint(path))
    return _resident("VmHWM") - before


def _resident(key: str) -> int:
    """Bytes of this process that are in memory now (`VmRSS`) or were at most (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    print(_peak(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
