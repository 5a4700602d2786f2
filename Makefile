# Everything here needs no more than Python >= 3.11 and make; each target sets up what it uses.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FUZZ_S ?= 60
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test test-long lint fuzz bench bench-full clean

help:
	@echo "make demo        a failure-detection experiment with 1,000 nodes: table, figure, data"
	@echo "make test        the tests"
	@echo "make test-long   the tests that take minutes each"
	@echo "make lint        ruff, mypy --strict and the import law"
	@echo "make fuzz        fuzz the wire with atheris, a minute each for four targets; FUZZ_S=600 for longer"
	@echo "make bench       speed and memory of the simulator, the wire, and our agent beside Serf's"
	@echo "make bench-full  the simulator with 100,000 nodes"
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
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not long"

test-long: $(VENV)/.test
	$(BIN)/python -m pytest -n auto -m long --timeout 3600

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.fuzz: $(VENV)/.test
	$(PIP) -e '.[test,fuzz]'
	@touch $@

# What is found stays in results/fuzz: inputs that reach new code, and those that crash.
fuzz: $(VENV)/.fuzz
	@for target in packet stream lzw keyring; do \
		mkdir -p results/fuzz/$$target; \
		echo "fuzzing $$target for $(FUZZ_S) s"; \
		$(BIN)/python -m tests.fuzz.fuzz_$$target -max_total_time=$(FUZZ_S) -verbosity=0 \
			-print_final_stats=1 -artifact_prefix=results/fuzz/$$target- results/fuzz/$$target \
			>results/fuzz/$$target.log 2>&1 || { tail -n 40 results/fuzz/$$target.log; exit 1; }; \
		grep -E 'number_of_executed_units|peak_rss' results/fuzz/$$target.log; \
	done

bench: $(VENV)/.run
	$(BIN)/swimsim bench
	$(BIN)/swimsim bench --agents

bench-full: $(VENV)/.run
	$(BIN)/swimsim bench --full

clean:
	rm -rf $(VENV) results
