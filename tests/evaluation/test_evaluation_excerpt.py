"""An excerpt has whole runs at some epochs, from the first to the last."""

import pandas as pd

from peace.evaluation.excerpt import excerpt


def test_an_excerpt_has_so_many_runs_at_so_many_epochs() -> None:
    rows = pd.DataFrame([(f"r{run}", epoch) for run in range(30) for epoch in range(1, 26, 2)],
                        columns=["run_id", "epoch"])  # fmt: skip
    kept = rows[excerpt(rows, 8, 4, seed=3)]
    assert len(kept) == 32 and kept["run_id"].nunique() == 8
    assert sorted(kept["epoch"].unique()) == [1, 9, 17, 25]
    shuffled = rows.sample(frac=1, random_state=0)
    assert set(shuffled[excerpt(shuffled, 8, 4, seed=3)].index) == set(kept.index)
    assert set(rows[excerpt(rows, 8, 4, seed=4)].index) != set(kept.index)
    assert excerpt(rows, 99, 99).all()
