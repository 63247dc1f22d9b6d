"""The README's numbers are those of the generated tables."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SHOWN = re.findall(r"<!-- results/tables/([\w/]+)\.md -->", README)


def within_the_readme(table: str) -> str:
    """Returns a generated table without its title, its headings one level lower."""
    generated = (ROOT / "results" / "tables" / f"{table}.md").read_text()
    return re.sub(r"^## ", "### ", generated.partition("\n# ")[2].partition("\n\n")[2], flags=re.MULTILINE)


@pytest.mark.parametrize("table", SHOWN)
def test_the_readme_holds_the_table_as_generated(table: str) -> None:
    marked = README.partition(f"<!-- results/tables/{table}.md -->\n\n")[2]

    assert marked.startswith(within_the_readme(table))


def test_the_readme_shows_the_demo() -> None:
    assert "demo" in SHOWN


def test_every_file_the_readme_shows_exists() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", README)

    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
