.PHONY: install demo test test-all lint clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

install: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,umap,weightwatcher]"
	touch $(READY)

# One seed of the demo; records and tables go to build/, away from the committed ones of three seeds.
demo: $(READY)
	$(BIN)/peace sweep demo --local --seeds 0 paths.results=build/demo tracking=none

test: $(READY)
	$(BIN)/python -m pytest

test-all: $(READY)
	$(BIN)/python -m pytest -m ""

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

clean:
	rm -rf build dist .pytest_cache .ruff_cache .import_linter_cache
	find src tests experiments -name __pycache__ -type d -prune -exec rm -rf {} +
