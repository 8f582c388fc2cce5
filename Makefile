PYTHON ?= python3
VENV   ?= .venv
# Test processes; `make test JOBS=` runs them in this process.
JOBS   ?= 2
# More for pytest: `make test ARGS="-k name"`.
ARGS   ?=

BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PYTEST  = $(BIN)/python -m pytest $(if $(JOBS),-n $(JOBS)) $(ARGS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env study test test-long lint format freeze clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

env: $(STAMP) ## make the environment, when pyproject.toml or constraints.txt changed

# As an environment variable the constraints also hold inside the throw-away environments that source archives are
# built in. DeepSpeed is one: it builds without torch and, with DS_BUILD_OPS=0, without a compiler.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	DS_BUILD_OPS=0 PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --disable-pip-version-check $(if $(CI),--quiet --progress-bar off) --editable '.[dev]'
	touch $@

study: $(STAMP) ## make the environment and run the quickstart study
	$(BIN)/hvg study experiments/quickstart

test: $(STAMP) ## run the quick tests
	$(PYTEST)

test-long: $(STAMP) ## run every test, the long ones too
	$(PYTEST) -m ""

lint: $(STAMP) ## check style, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(STAMP) ## fix style and format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

freeze: $(STAMP) ## write the environment's versions to constraints.txt
	$(BIN)/python -m pip freeze --all --exclude pip --exclude-editable > $(VENV)/freeze.txt
	{ sed -n '/^#/p' constraints.txt; sed 's/+[^ ]*$$//' $(VENV)/freeze.txt; } > $(VENV)/constraints.txt
	cp $(VENV)/constraints.txt constraints.txt
	touch $(STAMP)

clean: ## remove the environment, caches and build leftovers
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
