# Everything here needs no more than Python >= 3.11 and make; each target sets up what it uses.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test test-long lint bench bench-full clean

help:
	@echo "make demo        a failure-detection experiment with 1,000 nodes: table, figure, data"
	@echo "make test        the tests"
	@echo "make test-long   the tests that take minutes each"
	@echo "make lint        ruff, mypy --strict and the import law"
	@echo "make bench       speed and memory of the simulator"
	@echo "make bench-full  the same with 100,000 nodes"
	@echo "make clean       remove the environment and the results"

$(VENV)/.run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "swimsim needs Python 3.11 or newer, $(PYTHON) is older" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(PIP) -e '.[test,lint]'
	@touch $@

demo: $(VENV)/.run
	$(BIN)/swimsim experiment run detection --demo --out results/demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto -m "not long"

test-long: $(VENV)/.test
	$(BIN)/python -m pytest -n auto -m long --timeout 3600

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.run
	$(BIN)/swimsim bench

bench-full: $(VENV)/.run
	$(BIN)/swimsim bench --full

clean:
	rm -rf $(VENV) results
