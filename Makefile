# Two commands set everything up on a fresh machine: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Compiled at once: else every command that cannot write beside the packages would compile them anew.
INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt

.PHONY: demo test docs-test lint soak constraints clean
.DELETE_ON_ERROR:

# Synthesise cells, measure, compare, train, predict: see fusion-demo/comparison/report.html afterwards.
demo: $(VENV)/installed
	$(BIN)/fusion demo fusion-demo

test: $(VENV)/installed-dev lint
	$(BIN)/python -m pytest -n auto -m "not slow"

# Every command in README and docs, as a reader would type it, on small synthetic data.
docs-test: $(VENV)/installed-dev
	$(BIN)/python -m pytest tests/test_documentation.py -n auto

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Everything, however long it takes.
soak: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n auto

# Pin what a fresh resolution of all extras gives today, names and versions only.
constraints: $(VENV)/bin/uv
	$(BIN)/uv pip compile setup.cfg --all-extras --upgrade --no-header --no-annotate --no-emit-index-url \
		--no-emit-find-links --output-file constraints.txt --quiet

$(VENV)/bin/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/installed: $(VENV)/bin/uv setup.cfg pyproject.toml constraints.txt
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(INSTALL) -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info fusion-demo
