# Everything a fresh clone needs; `make` alone says what there is. Needs Linux, Python >= 3.11, git and make.
# PYTHON=… chooses the interpreter, SCENARIO=… the demo's scenarios, ARGS=… goes to pytest or to the demo.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
SHELL := /bin/sh

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CODE := $(wildcard autopilot workflows activities worker starter tests benchmarks)

# Nothing asks, nothing fetches an interpreter, nothing waits for ever.
export PIP_NO_INPUT := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
export UV_PYTHON_DOWNLOADS := never
export UV_HTTP_TIMEOUT ?= 60
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
# Compiled once, not by each of the hundreds of processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## say what there is
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: install
install: $(STAMP) ## make .venv from the lock, and fetch Prometheus; quick when nothing changed
	@:

$(STAMP): uv.lock pyproject.toml .ci/setup
	@.ci/setup $(VENV)
	@touch $@

.PHONY: demo
demo: install ## a good version is promoted, bad ones rolled back, on real Envoys (SCENARIO=…)
	@$(BIN)/autopilot demo $(SCENARIO) $(ARGS)

.PHONY: test
test: install ## style, types, import directions, all tests, those on a cluster too; ends with a table (ARGS=… picks tests)
	@$(BIN)/python -m tests.ci $(if $(ARGS),only -- $(ARGS),test)

.PHONY: test-lab
test-lab: install ## tests on a real API server, istiod and Envoys (LAB_ARGS=…); the first build takes a quarter of an hour
	@timeout 3000 $(BIN)/python -m tests.lab test -- $(BIN)/pytest $(or $(LAB_ARGS),tests/kube)

.PHONY: lab-up
lab-up: install ## keep a lab running: Kubernetes, istiod and Prometheus as processes in a network namespace
	@timeout 3000 $(BIN)/python -m tests.lab up

.PHONY: lab-down
lab-down: install ## take it down
	@$(BIN)/python -m tests.lab down

.PHONY: lint
lint: install ## style and common faults
	@$(BIN)/ruff format --quiet --check $(CODE) || { echo "run 'make format'" >&2; exit 1; }
	@$(BIN)/ruff check --quiet $(CODE)

.PHONY: format
format: install ## put the code into shape
	@$(BIN)/ruff check --quiet --fix-only $(CODE)
	@$(BIN)/ruff format $(CODE)

.PHONY: types
types: install ## mypy (strict) and pyright
	@timeout 600 $(BIN)/mypy
	@timeout 600 $(BIN)/pyright

.PHONY: imports
imports: install ## imports go one way
	@$(BIN)/lint-imports

.PHONY: histories
histories: install ## write what is missing in the replay corpus (to give a history up on purpose, delete it first)
	@timeout 300 $(BIN)/python -m tests.histories.regenerate

bench-%: install ## benchmarks/NAME.py; writes benchmarks/results/NAME.json
	@test -f benchmarks/$(subst -,_,$*).py || \
		{ echo "there is no benchmark '$*'; there are:" $$(ls benchmarks | sed -n 's/\.py$$//p') >&2; exit 1; }
	@mkdir -p benchmarks/results
	@$(BIN)/python benchmarks/$(subst -,_,$*).py $(ARGS)

.PHONY: picture
picture: install ## the pictures of `autopilot demo` in README, from a real run (a minute and a half)
	@$(BIN)/python benchmarks/picture.py

.PHONY: crash
crash: install ## kill everything at every point of a rollout; writes benchmarks/results/crash.json (half an hour)
	@mkdir -p benchmarks/results
	@timeout 2400 $(BIN)/python benchmarks/crash.py $(ARGS)

.PHONY: crash-lab
crash-lab: install ## the same on a cluster: death at every write to the API server, and of every process (about 6 minutes)
	@$(MAKE) test-lab LAB_ARGS="tests/kube/test_kill_points.py tests/kube/test_envoyfilter_deaths.py tests/kube/test_fault_deaths.py tests/kube/test_deaths.py"

.PHONY: clean
clean: ## remove what was made here, the local stack's state included
	@if test -x $(BIN)/autopilot && test -d .autopilot; then $(BIN)/autopilot down; fi
	@rm -rf $(VENV) .uv-bin .autopilot dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
