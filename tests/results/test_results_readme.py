"""The README's numbers are those of the generated tables."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("table", ["demo", "zoo_training_speed"])
def test_the_readme_holds_the_table_as_generated(table: str) -> None:
    readme = (ROOT / "README.md").read_text()
    generated = (ROOT / "results" / "tables" / f"{table}.md").read_text()

    marked = readme.partition(f"<!-- results/tables/{table}.md -->\n")[2]

    assert marked.startswith(f"\n{generated}")


def test_every_file_the_readme_shows_exists() -> None:
    import re

    targets = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text())

    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
