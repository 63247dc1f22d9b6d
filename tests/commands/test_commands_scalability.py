"""The experiment on scalability: its line, its vectors that fill, its indexes, and its records of a small zoo."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commands_home import EXPERIMENT, WORDS, Home
from torch.nn.functional import normalize

from experiment_modules import measure_of
from peace.config import folder
from peace.errors import InputError
from peace.models.saving import load_producer
from peace.reporting.record import read_records
from peace.reporting.table import make_table
from peace.zoo.storage import Zoo

EXPERIMENTS = folder("experiments")
"""Those of this checkout, wherever a test's home lies."""


@pytest.fixture(scope="module")
def modules() -> SimpleNamespace:
    measure = measure_of("scalability")
    import growth
    import million

    return SimpleNamespace(measure=measure, growth=growth, million=million)


def test_the_line_has_the_least_relative_error_and_its_interval_is_that_of_the_repeats(
    modules: SimpleNamespace,
) -> None:
    line = modules.growth.line
    exact = line({size: [2 + 0.5 * size] * 3 for size in (10, 100, 1000)}, 10_000, 0)
    found = [exact.a, exact.b, exact.at, *exact.a_interval, *exact.b_interval, *exact.at_interval]
    np.testing.assert_allclose(found, [2, 0.5, 5002, 2, 2, 0.5, 0.5, 5002, 5002], rtol=1e-9)
    values = {10: [6.0, 8.0], 100: [50.0, 54.0], 1000: [480.0, 540.0]}
    noisy = line(values, 10_000, 0)
    sizes = np.array([10.0, 100.0, 1000.0])
    means = np.array([np.mean(values[int(size)]) for size in sizes])
    slope, at_none = np.polyfit(sizes, means, 1, w=1 / means)
    np.testing.assert_allclose([noisy.a, noisy.b, noisy.at], [at_none, slope, at_none + 10_000 * slope], rtol=1e-9)
    for value, (low, high) in ((noisy.a, noisy.a_interval), (noisy.b, noisy.b_interval), (noisy.at, noisy.at_interval)):
        assert low < value < high
    assert line(values, 10_000, 0) == noisy


def test_vectors_that_fill_lie_as_far_from_a_model_as_its_nearest(modules: SimpleNamespace) -> None:
    real = normalize(torch.randn(40, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    filled = modules.million.filled(real, 130, 3)
    assert filled.shape == (130, 8) and torch.equal(filled[:40], real)
    torch.testing.assert_close(filled.norm(dim=1), torch.ones(130))
    apart = torch.cdist(real, real).fill_diagonal_(torch.inf).amin(1)
    source = torch.arange(90) % 40
    torch.testing.assert_close((filled[40:] - real[source]).norm(dim=1), apart[source], atol=1e-4, rtol=1e-3)
    assert torch.equal(filled, modules.million.filled(real, 130, 3))
    assert not torch.equal(filled, modules.million.filled(real, 130, 4))
    assert torch.equal(modules.million.filled(real, 30, 3), real[:30])


def test_an_index_is_held_against_exact_search(modules: SimpleNamespace) -> None:
    vectors = normalize(torch.randn(3000, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    exact, coarse = (
        modules.million.measured(node, vectors, 0, 1)
        for node in ({"name": "exact"}, {"name": "hnsw", "links": 2, "build_beam": 4, "search_beam": 4})
    )
    assert exact["recall@10"] == 1 and exact["bytes_per_model"] == pytest.approx(64, abs=1)
    assert 0 < coarse["recall@10"] < 0.9
    for found in (exact, coarse):
        assert 0 < found["p50_ms"] <= found["p99_ms"] and found["build_seconds"] > 0


@pytest.mark.slow
def test_the_records_of_a_small_zoo(
    modules: SimpleNamespace, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modules.measure, "THREADS", 1)
    kinds = {**modules.million.INDEXES, "ivf_pq": {"name": "ivf_pq", "code_bytes": 8}}
    monkeypatch.setattr(modules.measure, "INDEXES", kinds)
    words = [f"experiment={EXPERIMENT}", *WORDS.split(), f"paths.results={tmp_path}"]
    paths = modules.measure.main(words, "demo", sizes=(20, 40), repeats=1, million=1000)
    records = {next(iter(record.row.values())): record for record in read_records(tmp_path / "records", "scalability")}
    assert len(paths) == 6 and records.keys() == {"20", "40", "line", "exact", "hnsw", "ivf_pq"}
    embedder = load_producer(home.run() / "embedder")[1]
    for record in records.values():
        assert record.notes == {"threads": 1, "embedder": embedder}
        assert record.zoo == Zoo.open(home.zoo).hash
    for size in (20, 40):
        assert records[str(size)].counts == {"models": size, "repeats": 1}
        assert all(metric.value > 0 for metric in records[str(size)].metrics.values())
    line = {key: records["line"].metrics[f"seconds_{key}"].value for key in ("of_none", "per_thousand", "of_a_million")}
    assert line["of_a_million"] == pytest.approx(line["of_none"] + line["per_thousand"], rel=1e-4)
    for name in ("exact", "hnsw", "ivf_pq"):
        assert records[name].counts == {"vectors": 1000, "real vectors": 40}
    assert records["exact"].metrics["recall@10"].value == 1
    table = make_table("scalability", EXPERIMENTS, tmp_path / "records")
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in table.markdown.replace("−", "-").splitlines()}
    printed = float(rows["Line"].split(" | ")[3].split(" ")[0].replace(",", ""))
    assert printed == pytest.approx(line["of_a_million"], rel=0.01) and "100.0" in rows["Exact, a million"]


def test_a_run_without_embedder_and_a_zoo_too_small_are_refused(
    modules: SimpleNamespace, home: Home, tmp_path: Path
) -> None:
    words = [f"experiment={EXPERIMENT}", *WORDS.split(), f"paths.results={tmp_path}"]
    with pytest.raises(InputError, match=r"embedder\.json"):
        modules.measure.main([*words, "seed=7"], "demo")
    with pytest.raises(InputError, match="too few usable models") as caught:
        modules.measure.main(words, "demo", sizes=(1_000,))
    assert str(home.zoo.name) in str(caught.value) and not list(tmp_path.iterdir())
