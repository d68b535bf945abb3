# `make` lists the targets. Each sets up what it needs in .venv: once, and again when the
# dependencies change.
#
#   PYTHON=python3.12   the interpreter to use; default: the first one found that is new enough
#   PYTEST_ARGS="-n 2"  what to hand to pytest

.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := $(wildcard src tests demo benchmarks)
PYTHONS := $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14 python)

# Run, not only looked up: a version manager's shim is on the PATH and still may start nothing.
NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null

# Without uv, pip installs the very versions of uv.lock; left to choose, it searches for many minutes.
define LOCKED_VERSIONS
import tomllib
with open("uv.lock", "rb") as lock:
    for package in tomllib.load(lock)["package"]:
        if "registry" in package["source"]:
            where = " or ".join(package.get("resolution-markers", []))
            print(package["name"], "==", package["version"], " ; " if where else "", where, sep="")
endef
export LOCKED_VERSIONS

$(READY): pyproject.toml uv.lock
	@set -e; found=; \
	for python in $(PYTHONS); do \
		if "$$python" $(NEW_ENOUGH); then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "coatcheck needs Python 3.11 or newer; tried: $(PYTHONS)." >&2; \
		echo "Install one, or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	echo "Setting up $(VENV); the first time this takes a minute or two."; \
	if command -v uv >/dev/null; then \
		UV_PROJECT_ENVIRONMENT=$(VENV) uv sync --locked --all-extras --python "$$found"; \
	else \
		"$$found" -m venv --clear $(VENV); \
		$(BIN)/python -c "$$LOCKED_VERSIONS" >$(VENV)/locked.txt; \
		$(BIN)/python -m pip install --quiet --only-binary pycurl \
			--constraint $(VENV)/locked.txt --editable '.[all]'; \
	fi; \
	touch $@

.PHONY: help setup test test-all-pythons lint demo bench clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "%-18s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## install everything into .venv, with uv if it is there, else with pip

test: lint ## all checks and all tests
	$(BIN)/python -m pytest --cov --cov-report=term $(PYTEST_ARGS)

test-all-pythons: ## make test with each Python 3.11, 3.12 and 3.13 on the PATH or in pyenv
	@set -e; for version in 3.11 3.12 3.13; do \
		for python in python$$version "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version.*/bin/python; do \
			if "$$python" $(NEW_ENOUGH); then \
				$(MAKE) test PYTHON="$$python" VENV=.venv-$$version; continue 2; \
			fi; \
		done; \
		echo "Python $$version: not found, not tested"; \
	done

lint: setup ## formatting, lint, types and the import arrows
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports

demo: setup ## all four frameworks with their payloads in S3, on servers of its own
	@$(BIN)/python -m demo

bench: setup ## coatcheck beside its peers, on the same server
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks.celery
	@$(BIN)/python -m benchmarks.labox
	@$(BIN)/python -m benchmarks.flowserv

clean: ## remove what the other targets made
	rm -rf .venv .venv-3.* .*_cache .hypothesis .coverage
