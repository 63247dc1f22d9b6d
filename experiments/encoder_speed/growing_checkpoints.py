"""Part (c): embedding time as checkpoints grow from a million parameters to a thousand million."""

import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from checkpoints import REPEATS, embedder, median_seconds, streamed, transformer
from scipy import stats
from tqdm import tqdm

from peace import provenance
from peace.config import fingerprint
from peace.models.streaming import embed_checkpoint
from peace.reporting.record import Metric, write_record
from peace.zoo.checkpoint import open_checkpoint

EXPERIMENT = "encoder_speed"
WIDTHS = {1_000_000: 128, 3_000_000: 192, 10_000_000: 256, 30_000_000: 512, 100_000_000: 768, 300_000_000: 1024,
          1_000_000_000: 2048}  # fmt: skip
"""Parameters of transformer blocks, about, and their width; a block has 12 width² of them."""
LARGE = 30_000_000
"""Parameters from which on what a file costs whatever its size no longer counts."""
THREADS = 2


def records(root: Path, seed: int, encoders: Sequence[str], sizes: Sequence[int] = tuple(WIDTHS)) -> Iterator[Path]:
    """Yields the path of the record of each encoder that reads layer by layer.

    Arguments as in part (b); sizes are keys of `WIDTHS`.

    A checkpoint, 4 bytes a parameter on the disk, is deleted before the next one is written.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    started = time.perf_counter()
    made = {name: embedder(name, seed) for name in streamed(encoders)}
    seconds: dict[str, dict[int, float]] = {name: {} for name in made}
    parameters: dict[int, int] = {}
    for size in tqdm(sizes, unit=" checkpoints", disable=None):
        with tempfile.TemporaryDirectory() as folder:
            blocks = max(1, round(size / (12 * WIDTHS[size] ** 2)))
            parameters[size] = transformer(Path(folder), WIDTHS[size], blocks, seed)
            checkpoint = open_checkpoint(folder)
            for name, one in made.items():
                seconds[name][size] = median_seconds(partial(embed_checkpoint, one, checkpoint))
    torch.set_num_threads(threads)
    for name, found in seconds.items():
        metrics = {f"seconds_{_short(size)}": Metric(value) for size, value in found.items()}
        large = {size: value for size, value in found.items() if size >= LARGE}
        for key, some in {"slope": found, f"slope_from_{_short(LARGE)}": large}.items():
            if len(some) > 2:
                slope, margin = log_slope({parameters[size]: value for size, value in some.items()})
                metrics[key] = Metric(slope, low=slope - margin, high=slope + margin)
        yield write_record(
            root, EXPERIMENT, {"part": "growing", "encoder": name}, seed, metrics,
            {"repeats": REPEATS} | {f"parameters, {_short(size)}": parameters[size] for size in found},
            {"zoo": "", "config": fingerprint({"encoder": name, "sizes": list(sizes)}), **provenance.stamp()},
            time.perf_counter() - started, {"threads": THREADS},
        )  # fmt: skip


def log_slope(seconds: dict[int, float]) -> tuple[float, float]:
    """Returns the exponent of seconds as a power of the number of parameters, and half its 95 % interval.

    Least squares in logarithms; Student's t with as many degrees of freedom as there are points less two.
    """
    fitted = stats.linregress(np.log(list(seconds)), np.log(list(seconds.values())))
    return float(fitted.slope), float(stats.t.ppf(0.975, len(seconds) - 2) * fitted.stderr)


def _short(size: int) -> str:
    """Such as 30M."""
    power = int(math.log10(size)) // 3
    return f"{size // 1000**power}{' KMG'[power].strip()}"
