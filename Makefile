PYTHON ?= python3
VENV   ?= .venv
# Test processes; `make test JOBS=` runs them in this process.
JOBS   ?= 2
# More for pytest: `make test ARGS="-k name"`.
ARGS   ?=
# The moments at which tests interrupt runs are drawn from it: `make test-long SEED=1790000000`.
SEED   := $(or $(SEED),$(shell date +%s))
export HVG_TEST_SEED = $(SEED)
# Many processes import the same modules: compiled and rewritten tests are kept, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE

BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# The environment of `hvg motion` and `hvg photo`, where hvg looks for it.
VIDEO  := .venv-video
PINS   := hvg/media/pose_detector/constraints.txt
# The environment that builds the site of the pages.
DOCS   := .venv-docs
CHROMIUM := $(shell command -v chromium)
# A program of the system, which a Python environment cannot bring.
WITHOUT_BROWSER := @$(if $(CHROMIUM),:,echo "NOT RUN: the tests of the report in a browser. They need Chromium (Debian: apt-get install chromium)." >&2)
WITHOUT_DETECTOR := @test -x $(VIDEO)/bin/python || echo 'NOT RUN: the tests of the detector of people. They need what `make video-env` makes.' >&2
# Neighbours stay together, for they share what was trained for them, until a process has nothing left to do.
PYTEST  = $(BIN)/python -m pytest $(if $(JOBS),-n $(JOBS) --dist worksteal)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# A line of the theme's authors on the future of their project is no fault of a page.
docs: export NO_MKDOCS_2_WARNING = 1
.PHONY: help env video-env docs demo study test test-long test-kill test-fuzz test-browser test-slurm lint format freeze clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

env: $(STAMP) ## make the environment, when pyproject.toml or constraints.txt changed

# As an environment variable the constraints also hold inside the throw-away environments that source archives are
# built in. DeepSpeed is one: it builds without torch and, with DS_BUILD_OPS=0, without a compiler.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	DS_BUILD_OPS=0 PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --disable-pip-version-check $(if $(CI),--quiet --progress-bar off) --editable '.[dev]'
	$(BIN)/python -m compileall -q hvg components
	touch $@

video-env: $(VIDEO)/.installed ## make the environment of the detector that `hvg motion` and `hvg photo` start: 1 GB

$(VIDEO)/.installed: $(PINS)
	test -x $(VIDEO)/bin/python || $(PYTHON) -m venv $(VIDEO)
	$(VIDEO)/bin/python -m pip install --disable-pip-version-check $(if $(CI),--quiet --progress-bar off) --requirement $(PINS)
	touch $@

docs: $(DOCS)/.installed ## build the pages and the reference of hvg.plugin into build/docs; a broken link fails
	$(DOCS)/bin/mkdocs build --quiet --config-file .mkdocs/mkdocs.yml
	@echo "build/docs/index.html; to search it: $(DOCS)/bin/python -m http.server --directory build/docs"

$(DOCS)/.installed: .mkdocs/constraints.txt
	test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --disable-pip-version-check $(if $(CI),--quiet --progress-bar off) --requirement $<
	touch $@

demo: $(STAMP) ## make the environment and a first video, in demo/
	$(BIN)/hvg demo overwrite=true $(ARGS)

study: $(STAMP) ## make the environment and run the quickstart study
	$(BIN)/hvg study experiments/quickstart

test: $(STAMP) ## run the quick tests, with those in a browser where Chromium is installed
	$(WITHOUT_BROWSER)
	$(PYTEST) -m "not long and not slurm and not kill and not fuzz$(if $(CHROMIUM),, and not browser)" $(ARGS)

test-long: $(STAMP) ## run the tests that take long, and no others
	@echo "Runs are interrupted as drawn from SEED=$(SEED)."
	$(WITHOUT_DETECTOR)
	$(PYTEST) -m "long and not slurm and not kill and not fuzz$(if $(CHROMIUM),, and not browser)" $(ARGS)

test-kill: $(STAMP) ## interrupt runs of every strategy 60 times each, and hvg prepare 20 times, at any moment: an hour
	@echo "Runs are interrupted as drawn from SEED=$(SEED)."
	$(PYTEST) -m kill -rP $(ARGS)

test-fuzz: $(STAMP) ## judge 2,000 configurations and run 40 of them: an hour
	@echo "Configurations are drawn from SEED=$(SEED)."
	$(BIN)/python -m pytest -m fuzz -rP $(ARGS)

test-browser: $(STAMP) ## run the tests of the report in Chromium; they fail without it
	$(PYTEST) -m browser $(ARGS)

# In this process: they share one Slurm.
test-slurm: $(STAMP) ## run the tests on a Slurm of one node; as root on Debian it is installed where it is missing
	tests/slurm/start_cluster.sh install
	$(BIN)/python -m pytest -m slurm tests/slurm $(ARGS)

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
	rm -rf $(VENV) $(VIDEO) $(DOCS) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
