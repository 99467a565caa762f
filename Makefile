# Two commands set everything up on a fresh machine: make demo, make test. A bare make says what there is.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Compiled at once: else every command that cannot write beside the packages would compile them anew.
INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt
# A worker a core, and a thread a worker: threads of one wait for those of another longer than they work.
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

.PHONY: help demo test docs docs-test newcomer figures notebooks lint hooks soak constraints clean
.DELETE_ON_ERROR:

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/installed ## synthesise cells, measure, compare, train, predict: ends in fusion-demo/comparison/report.html
	$(BIN)/fusion demo fusion-demo

test: $(VENV)/installed-dev lint ## lint, and every test that takes no longer than a few seconds
	$(PYTEST) -m "not slow"

docs-test: $(VENV)/installed-dev ## every command in README and docs, as a reader would type it, on synthetic cells
	$(PYTEST) tests/documentation/test_documentation.py

newcomer: $(VENV)/installed-dev ## the wheel on Python 3.11 to 3.13: README and both tutorials, no line changed
	$(BIN)/python tests/distribution/newcomer.py

figures: $(VENV)/installed-dev ## the figures of README and tour anew: make figures WBC=segmentation_WBC WEIGHTS=FILE.safetensors
	$(BIN)/python -m benchmarks.readme_figures --wbc "$(WBC)" --weights "$(WEIGHTS)"

notebooks: $(VENV)/installed-dev ## run the notebooks of examples/ and store what they show
	$(BIN)/python -m tests.documentation.notebooks

docs: $(VENV)/installed-docs ## the documentation as a site: build/site/index.html, without a network
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs/site docs build/site
	@echo build/site/index.html

lint: $(VENV)/installed-dev ## ruff, mypy, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

hooks: $(VENV)/installed-dev ## check every commit of this clone before it is made
	$(BIN)/pre-commit install

soak: $(VENV)/installed-dev ## every test, however long it takes
	$(PYTEST)

# Names and versions only.
constraints: $(VENV)/bin/uv ## pin what a fresh resolution of all extras gives today
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

$(VENV)/installed-docs: $(VENV)/installed
	$(INSTALL) -e '.[docs]'
	@touch $@

clean: ## remove the environment and what was built
	rm -rf $(VENV) build dist *.egg-info fusion-demo
