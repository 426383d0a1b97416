# make certify: the conformance tests on the emulated rigs, a report for each. make test, make lint, make bench: below.
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

# The devices of a HAN, the sites of options A and B, a dual-mode PPMID in either system, and two Communications Hubs: of
# the older one only what it does with images that it takes and that it does not.
RIGS := emulated-devices emulated-option-b emulated-dual emulated-dual-smets1 emulated-hub emulated-hub-before-secmp0007

certify: $(STAMP)
	@rm -rf evidence
	@failed=; for rig in $(RIGS); do \
		echo "== $$rig"; \
		case $$rig in *-before-*) tests=tests/conformance/hub/test_images.py;; *) tests=tests/conformance;; esac; \
		$(BIN)/python -m pytest -q $$tests --rig rigs/$$rig.yaml --certify --evidence evidence/$$rig \
			|| failed="$$failed $$rig"; \
	done; test -z "$$failed" || { echo "failed on:$$failed"; exit 1; }

# Each worker is a process of its own; the conformance tests are what make certify runs.
test: $(STAMP)
	$(BIN)/python -m pytest -q -n auto tests/unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV) evidence bench.json
