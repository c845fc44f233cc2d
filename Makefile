# make run    install into .venv if needed, then run the demo experiment
# make test   install into .venv if needed, then run the tests
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup run test check fmt bench docs golden clean

help: ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: .venv/dev.stamp ## Create .venv with everything that development needs

run: .venv/run.stamp ## Run the demo: tokenize, index, generate, evaluate (ARGS="sampler=infinigram")
	$(BIN)/python -m imagegram.run $(ARGS)

test: .venv/dev.stamp ## Run all tests, a worker a core (ARGS="-k index")
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(ARGS)

check: .venv/dev.stamp ## Lint, format, spelling and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

fmt: .venv/dev.stamp ## Format and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/dev.stamp ## Time imagegram beside its peers; writes benchmarks/results.md (ARGS="--repeats 3")
	$(BIN)/python -m benchmarks $(ARGS)

docs: .venv/dev.stamp ## API pages below docs/_build
	$(BIN)/python -m pdoc imagegram -o docs/_build

golden: .venv/dev.stamp ## Write the golden files anew (bump the VERSION of what changed)
	IMAGEGRAM_WRITE_GOLDEN=1 $(BIN)/python -m pytest tests/golden

clean: ## Remove caches and .venv; outputs/ stays
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis docs/_build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/run.stamp: pyproject.toml constraints.txt
	@echo "installing imagegram and torch into .venv: two minutes or more the first time, in silence ..."
	test -d .venv || $(PYTHON) -m venv .venv
	$(PIP) -e .
	touch $@

.venv/dev.stamp: pyproject.toml constraints.txt
	@echo "installing what development needs into .venv: two minutes or more the first time, in silence ..."
	test -d .venv || $(PYTHON) -m venv .venv
	$(PIP) -e '.[dev]'
	touch $@ .venv/run.stamp
