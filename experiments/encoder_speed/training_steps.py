"""Part (a): one training step of each encoder, beside the same step with edge-list message passing."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from edge_graph import EdgeGraph
from edge_lists import EDGE_LISTS
from populations import POPULATIONS, population
from torch import Tensor
from tqdm import tqdm

from peace import provenance
from peace.config import compose, fingerprint
from peace.graph.pyg import to_pyg_batch
from peace.graph.stack import Stack
from peace.losses.nt_xent import NTXent
from peace.losses.pairs import Facts, Pairs
from peace.models.embedder import Embedder, build_embedder
from peace.reporting.record import Metric, write_record

EXPERIMENT = "encoder_speed"
MODELS, WARM_UP, ROUNDS, THREADS = 64, 3, 15, 2
"""Models a step; steps before the clock starts; timed steps of which the median counts; threads."""

AGGREGATOR = "mean"
"""The cheapest, so that steps are the encoders' own."""

Step = Callable[[], None]


def records(root: Path, seed: int, encoders: Sequence[str]) -> Iterator[Path]:
    """Yields the path of each encoder's record once it is written.

    Args:
        root: Where records lie.
        seed: Of the models' weights and of the encoders.
        encoders: Their names.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        stacks = {name: population(name, MODELS, seed) for name in POPULATIONS}
        for encoder in tqdm(encoders, unit=" encoders", disable=None):
            yield _measured(root, seed, encoder, stacks)
    finally:
        torch.set_num_threads(threads)


def _measured(root: Path, seed: int, encoder: str, stacks: dict[str, Stack]) -> Path:
    started = time.perf_counter()
    whole = compose("pretrain", [f"encoder={encoder}", f"aggregator={AGGREGATOR}"])
    config = {key: whole[key] for key in ("graph", "encoder", "aggregator", "head", "regression")}
    metrics, notes = {}, {"threads": THREADS, "warm-up steps": WARM_UP, "aggregator": AGGREGATOR}
    for name, stack in stacks.items():
        torch.manual_seed(seed)
        made = build_embedder(config)
        found, milliseconds = timed(made, stack, encoder)
        metrics |= {f"{name}_{key}": Metric(value) for key, value in found.items()}
        notes |= {
            f"{name}, ms of each step, {key}": [round(ms, 2) for ms in each] for key, each in milliseconds.items()
        }
        notes["parameters"] = sum(parameter.numel() for parameter in made.encoder.parameters())
    counts = {"models": MODELS, "steps": ROUNDS}
    return write_record(
        root, EXPERIMENT, {"part": "training", "encoder": encoder}, seed, metrics, counts,
        {"zoo": "", "config": fingerprint(config), **provenance.stamp()}, time.perf_counter() - started, notes,
    )  # fmt: skip


def timed(made: Embedder, stack: Stack, encoder: str) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Returns an encoder's figures on one population, and the milliseconds of each step.

    The two ways take turns, so that a machine that is busy with other things for a while slows both.
    """
    ways = {"own": lambda: made.encoder(made.reading(stack))}
    found: dict[str, float] = {}
    if encoder in EDGE_LISTS:
        reading, tokens = EDGE_LISTS[encoder]
        edges = EdgeGraph(to_pyg_batch(made.reading(stack), reading), stack.graph, len(stack))
        ways["edge list"] = lambda: tokens(made.encoder, edges)
        with torch.no_grad():
            own, other = (way() for way in ways.values())
        found["difference"] = ((own - other).norm() / own.norm()).item()
    milliseconds = in_turns({key: training_step(made, way) for key, way in ways.items()})
    medians = {key: statistics.median(each) for key, each in milliseconds.items()}
    found |= {"ms": medians["own"], "models_per_second": 1000 * len(stack) / medians["own"]}
    if "edge list" in medians:
        found |= {"edge_list_ms": medians["edge list"], "times_faster": medians["edge list"] / medians["own"]}
    return found, milliseconds


def training_step(made: Embedder, tokens: Callable[[], Tensor]) -> Step:
    """Returns one step: tokens, embeddings, projections, NT-Xent of the two halves of the batch, backward, AdamW."""
    # Models that have nothing in common.
    facts = Facts(torch.arange(MODELS // 2), torch.full((MODELS // 2,), -1), torch.zeros(MODELS // 2))
    loss, optimizer = NTXent(), torch.optim.AdamW(made.parameters(), lr=1e-4, fused=True)
    made.train()

    def step() -> None:
        projections: Tensor = made.project(made.aggregator(tokens()))
        optimizer.zero_grad()
        first, second = projections.chunk(2)
        loss(Pairs(first, second, facts)).backward()
        optimizer.step()

    return step


def in_turns(steps: dict[str, Step]) -> dict[str, list[float]]:
    """Returns the milliseconds of each step, after some that do not count."""
    found: dict[str, list[float]] = {key: [] for key in steps}
    for turn in range(WARM_UP + ROUNDS):
        for key, step in steps.items():
            started = time.perf_counter()
            step()
            if turn >= WARM_UP:
                found[key].append(1000 * (time.perf_counter() - started))
    return found
