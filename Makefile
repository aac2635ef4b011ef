# Each target creates .venv when it is missing and installs into it what the target needs, so that each works alone on
# a fresh clone. A stamp in .venv says what is installed; it is out of date when pyproject.toml or constraints.txt is newer.

# The first Python on the path that is new enough; `make PYTHON=... test` picks another.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
# What is imported is compiled then, and the rest of torch never; but for POT, whose docstrings warn when it is compiled.
COMPILE = $(BIN)/python -W ignore -m compileall -q $(VENV)/lib/python3*/site-packages/ot
INSTALL = $(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt -e

# Bytecode is kept, whatever the shell says: without it every process that the tests start compiles torch anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test fuzz lint types bench bench-check docs links package lowest newest clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed  ## Probe 1,797 handwritten digits: profile and figure in demo/.
	@mkdir -p demo
	$(BIN)/brenier probe digits -o demo/digits.nc --figure demo/digits.png --force

test: $(VENV)/.installed-dev
	@echo "Some 5,000 tests: ten to fifteen minutes on two cores, by how busy they are"
	@$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist worksteal

CASES ?= 20000
fuzz: $(VENV)/.installed-dev  ## Files that are damaged at random, other ones every time: each is read, or refused in one line.
	@echo "$(CASES) files: about ten minutes on one core"
	@BRENIER_FUZZ=$(CASES) $(BIN)/pytest tests/core/reading/test_fuzz.py --numprocesses auto --maxprocesses 4 --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(VENV)/.installed-dev
	$(BIN)/basedpyright

bench: $(VENV)/.installed-bench
	@for script in benchmarks/*.py; do echo "$$script"; $(BIN)/python $$script || exit 1; done

bench-check: $(VENV)/.installed-bench  ## Whether the localization of data is as fast against direct evaluation as docs/design.md says.
	$(BIN)/python benchmarks/probe.py --check

docs: $(VENV)/.installed-docs  ## The site, in site/; the gallery and the tutorials run for it.
	@echo "The gallery and tutorials run: ten minutes or so on two cores"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

links: $(BIN)/python  ## Whether the pages that the docs point to elsewhere are there; says so where there is no network.
	@$(BIN)/python docs/hooks/links.py

package: $(VENV)/.installed-package  ## Wheel and sdist, checked; the wheel is tried in an environment of its own, without any extra.
	rm -rf dist $(VENV)-bare
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m venv $(VENV)-bare
	$(VENV)-bare/bin/python -m pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	$(VENV)-bare/bin/brenier probe two-points --snr 0.5,1,2
	$(VENV)-bare/bin/brenier probe digits --about atoms --queries 64 --snrs 8 --quiet
	$(VENV)-bare/bin/brenier plan two-points --steps 4
	rm -rf $(VENV)-bare

# Of PyPI alone, torch comes with some gigabytes of CUDA; `make TORCH_BACKEND=cpu lowest` asks PyTorch's own index instead.
lowest newest:  ## The tests with the oldest versions that pyproject.toml allows, or the newest to be had (needs uv).
	uv venv --quiet --allow-existing --python $(PYTHON) $(VENV)-$@
	uv pip install --quiet --python $(VENV)-$@ --upgrade --resolution $(if $(filter lowest,$@),lowest-direct,highest) \
		$(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND)) -e ".[dev]"
	$(VENV)-$@/bin/pytest -o filterwarnings= --numprocesses auto --maxprocesses 4 --dist worksteal

clean:  ## Everything that the targets made, but for .venv.
	rm -rf demo site build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "brenier needs Python 3.11 or newer on the path" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing brenier into $(VENV) (torch is large: this takes a minute or two)"
	@$(INSTALL) .
	@$(COMPILE)
	@touch $@

$(VENV)/.installed-%: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing brenier[$*] into $(VENV) (torch is large: this takes a minute or two)"
	@$(INSTALL) ".[$*]"
	@$(COMPILE)
	@touch $@
