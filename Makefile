# make demo: from nothing to a report. make test: the checks of CI. make help: all targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made-from
CHECKED := $(VENV)/check.log
CORES ?= 2
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)
# one worker more than cores, because tests of the workflow wait for the processes they start;
# tests/conftest.py puts the files that take longest first
PYTEST := $(BIN)/python -m pytest -n $(shell expr $(CORES) + 1) --dist loadfile --no-loadscope-reorder
.DEFAULT_GOAL := help
.PHONY: help env demo test test-all coverage check docs dist bench clean
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# without compiled modules, each of many processes would compile the libraries again
export PYTHONDONTWRITEBYTECODE :=
# the workflow starts the programs of this environment
export PATH := $(CURDIR)/$(BIN):$(PATH)

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

env: $(STAMP)  ## .venv for rules, tests and linters

$(STAMP): pyproject.toml constraints.txt
	@echo "making $(VENV) (some minutes the first time)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q --no-compile -c constraints.txt -e '.[dev]'
	@touch $@

demo: env  ## the whole workflow on the embedded default (some ten minutes on two cores)
	$(SNAKEMAKE)

# the longest first
CHECKS := $(BIN)/mypy,$(BIN)/snakemake --lint,$(BIN)/snakefmt --check workflow,$(BIN)/codespell,\
$(BIN)/python tests/prose.py,$(BIN)/validate-pyproject pyproject.toml,$(BIN)/ruff check .,\
$(BIN)/ruff format --check .

check: env  ## linters, types, spelling, prose
	@# what a linter says follows its name
	@echo '$(CHECKS)' | tr ',' '\n' | xargs -P $(CORES) -I {} \
	  sh -c 'said=$$({} 2>&1); code=$$?; echo "{}: $$said"; exit $$code'

test: env  ## the tests, and the linters beside them (some four minutes on two cores)
	@# one after another, the linters would leave a core idle for a minute
	@$(MAKE) --no-print-directory check > $(CHECKED) 2>&1 & checks=$$!; \
	$(PYTEST) --durations 15 -m "not slow"; tested=$$?; \
	wait $$checks; checked=$$?; cat $(CHECKED); exit $$((tested + checked))

test-all: check  ## the long tests too
	$(PYTEST) --durations 15

coverage: env  ## the tests with coverage (a quarter longer): htmlcov/index.html
	$(PYTEST) -m "not slow" --cov --cov-report term --cov-report html

docs: env  ## schemas and config/README.md, then the site: site/index.html
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python tests/docs/links.py site

dist: env  ## wheel and source archive: dist/
	rm -rf dist
	$(BIN)/python -m build

bench: env  ## speed and quality beside other programs
	$(BIN)/python -m pip install -q -r benchmarks/requirements.txt
	for script in $(filter-out benchmarks/imaging_variants.py,$(wildcard benchmarks/*.py)); do \
	  $(BIN)/python $$script || exit 1; done

clean:  ## remove the demo's results (not the environment)
	rm -rf results/demo
