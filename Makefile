# make certify: the conformance tests on the emulated rig, with a report. make test, make lint, make bench: see below.
# Each makes .venv when there is none, or when what it is made from has changed. PYTHON=python3.12 picks the Python.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The stamp names the Python, so that another PYTHON makes the environment anew.
VERSION := $(shell $(PYTHON) -c 'import platform; print(platform.python_version())')
STAMP := $(VENV)/.installed-$(VERSION)

.PHONY: certify test lint bench clean
.DEFAULT_GOAL := certify

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python $(VERSION) is too old: the harness needs 3.11 or newer; try make PYTHON=python3.12")'
	@test "`$(BIN)/python -c 'import platform; print(platform.python_version())' 2>&1`" = $(VERSION) \
		|| $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

certify: $(STAMP)
	@rm -rf evidence
	$(BIN)/python -m pytest -q tests/conformance --rig rigs/emulated-devices.yaml --certify --evidence evidence

test: $(STAMP)
	$(BIN)/python -m pytest -q --rig rigs/emulated-devices.yaml

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV) evidence bench.json
