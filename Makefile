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
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: install
install: $(STAMP) ## create .venv from the lock, and fetch Prometheus; quick when nothing changed
	@:

$(STAMP): uv.lock pyproject.toml .ci/setup
	@.ci/setup $(VENV)
	@touch $@

.PHONY: demo
demo: install ## promote a good version and roll bad ones back, on real Envoys (SCENARIO=…)
	@$(BIN)/autopilot demo $(SCENARIO) $(ARGS)

.PHONY: test
test: install ## check style, types and imports, and run all tests; ends with a table of times (ARGS=… picks tests)
	@$(BIN)/python -m tests.ci $(if $(ARGS),only -- $(ARGS),test)

.PHONY: test-lab
test-lab: install ## run the tests on a real API server, istiod and Envoys (LAB_ARGS=…); the first build takes about ten minutes
	@timeout 3000 $(BIN)/python -m tests.lab test $(if $(LAB_ARGS),,--workers 4) -- $(BIN)/pytest $(or $(LAB_ARGS),-q tests/kube)

.PHONY: lab-up
lab-up: install ## start a lab and keep it: Kubernetes, istiod and Prometheus as processes in a network namespace
	@timeout 3000 $(BIN)/python -m tests.lab up

.PHONY: lab-down
lab-down: install ## stop that lab
	@$(BIN)/python -m tests.lab down

.PHONY: lint
lint: install ## check style and common faults
	@$(BIN)/ruff format --quiet --check $(CODE) || { echo "run 'make format'" >&2; exit 1; }
	@$(BIN)/ruff check --quiet $(CODE)

.PHONY: format
format: install ## format the code
	@$(BIN)/ruff check --quiet --fix-only $(CODE)
	@$(BIN)/ruff format $(CODE)

.PHONY: types
types: install ## check types with mypy (strict) and pyright
	@timeout 600 $(BIN)/mypy
	@timeout 600 $(BIN)/pyright

.PHONY: imports
imports: install ## check the import directions
	@$(BIN)/lint-imports

.PHONY: histories
histories: install ## write missing histories of the replay corpus (to replace one on purpose, delete it first)
	@timeout 300 $(BIN)/python -m tests.histories.regenerate

bench-%: install ## run benchmarks/NAME.py; writes benchmarks/results/NAME.json
	@test -f benchmarks/$(subst -,_,$*).py || \
		{ echo "there is no benchmark '$*'; there are:" $$(ls benchmarks | sed -n 's/\.py$$//p') >&2; exit 1; }
	@mkdir -p benchmarks/results
	@$(BIN)/python benchmarks/$(subst -,_,$*).py $(ARGS)

.PHONY: picture
picture: install ## the pictures of `autopilot demo` in README, from a real run (a minute and a half)
	@$(BIN)/python benchmarks/picture.py

.PHONY: crash
crash: install ## kill everything at every point of a rollout; writes benchmarks/results/crash.json (50 minutes)
	@mkdir -p benchmarks/results
	@timeout 3600 $(BIN)/python benchmarks/crash.py $(ARGS)

.PHONY: crash-lab
crash-lab: install ## the same on a cluster: death at every write to the API server, and of every process (about 6 minutes)
	@$(MAKE) test-lab LAB_ARGS="tests/kube/test_kill_points.py tests/kube/test_envoyfilter_deaths.py tests/kube/test_fault_deaths.py tests/kube/test_deaths.py"

.PHONY: clean
clean: ## remove everything created here, including the state of the local stack
	@if test -x $(BIN)/autopilot && test -d .autopilot; then $(BIN)/autopilot down; fi
	@rm -rf $(VENV) .uv-bin .autopilot dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
