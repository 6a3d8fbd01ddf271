# mnistlab: the usual commands. `make help` lists them. ARGS are passed on: make train ARGS="optimizer=rmsprop"
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
DOCS_READY := $(VENV)/.docs-installed

.DEFAULT_GOAL := help
.PHONY: help train test test-all test-long test-ui test-launchers faults check bench docs docs-commands docs-figures ui clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 14); sys.exit(0 if ok else f"mnistlab needs Python 3.11 to 3.13; this is {sys.version.split()[0]}. Choose another: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

train: $(READY) ## one experiment, the default or ARGS="optimizer=rmsprop fit.epochs=5"
	$(BIN)/python -m mnistlab.train $(ARGS)

test: $(READY) ## the tests, without the slow end-to-end ones
	$(BIN)/python -m pytest -m "not slow and not long and not faults" $(ARGS)

test-all: $(READY) ## the slow end-to-end tests too, as CI runs them
	$(BIN)/python -m pytest -m "not long and not faults" $(ARGS)

test-long: $(READY) ## the thorough variations that CI leaves out
	$(BIN)/python -m pytest -m "long and not faults" $(ARGS)

test-ui: $(READY) ## MLflow's pages in Chromium, which must be installed; PICTURES=FOLDER keeps screenshots
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[browser]'
	MNISTLAB_TEST_PICTURES=$(PICTURES) $(BIN)/python -m pytest -m long tests/browser $(ARGS)

test-launchers: $(READY) ## launch=ray, slurm and submitit_local, on clusters of this machine
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[ray,slurm]'
	$(BIN)/python -m pytest -m long tests/launchers --numprocesses 1 $(ARGS)

faults: $(READY) ## the fault cases: killed runs, dead servers, full disks, random files and settings
	$(BIN)/python -m pytest -m faults $(ARGS)

check: $(READY) ## lint, format and types, as the pre-commit hooks do
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY) ## mnistlab against the notebook, side by side; ARGS="--full", ARGS="--only batch1"
	$(BIN)/python -m benchmarks $(ARGS)

$(DOCS_READY): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $(DOCS_READY)

docs: $(DOCS_READY) ## the documentation's site, in site/, with all its links checked
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --clean $(ARGS)
	@echo 'Read it: open site/index.html'

docs-commands: $(READY) ## all commands of the guide and the how-to pages, with small trainings
	MNISTLAB_TEST_PAGES=train $(BIN)/python -m pytest tests/e2e/test_pages.py $(ARGS)

docs-figures: $(READY) ## the guide's figures, anew, on the embedded digits or on MNIST: ARGS=mnist.npz
	$(BIN)/python docs/_scripts/make_figures.py $(ARGS)

ui: $(READY) ## the MLflow UI on this project's store; prints the address of the latest sweep or run
	$(BIN)/python -m mnistlab.ui $(ARGS)

clean: ## the environment and all caches; runs and mlruns stay
	rm -rf $(VENV) dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
