# make demo: everything, from nothing to a report. make test: what CI runs. make help: the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made-from
CORES ?= 2
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)
# in the order of tests/conftest.py: files that last longest first
PYTEST := $(BIN)/python -m pytest -n $(CORES) --dist loadfile --no-loadscope-reorder
.DEFAULT_GOAL := help
.PHONY: help env demo test test-all check docs bench clean
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# each of many processes would compile the libraries anew
export PYTHONDONTWRITEBYTECODE :=
# what the workflow starts is this environment's
export PATH := $(CURDIR)/$(BIN):$(PATH)

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

env: $(STAMP)  ## .venv with all that rules, tests and linters need

$(STAMP): pyproject.toml constraints.txt
	@echo "making $(VENV) (some minutes the first time)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q --no-compile -c constraints.txt -e '.[dev]'
	@touch $@

demo: env  ## the whole chain on the embedded default (six to twelve minutes on two cores), then where the report is
	$(SNAKEMAKE)

check: env  ## linters and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check workflow
	$(BIN)/snakemake --lint

test: check  ## linters, then the tests (about ten minutes on two cores)
	$(PYTEST) --durations 15 -m "not slow"

test-all: check  ## the long tests too
	$(PYTEST)

docs: env  ## schemas and config/README.md, then the site: site/index.html
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python tests/docs/links.py site

bench: env  ## our figures beside the peers'
	$(BIN)/python -m pip install -q -r benchmarks/requirements.txt
	for script in $(filter-out benchmarks/imaging_variants.py,$(wildcard benchmarks/*.py)); do \
	  $(BIN)/python $$script || exit 1; done

clean:  ## remove the demo's results (not the environment)
	rm -rf results/demo
