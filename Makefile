# One command a verb; each works from a bare clone and is quick the second time.
# ARGS hands flags on:  make up ARGS="--for 60s"

PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,\
            $(shell $(p) -c 'import sys; v = sys.version_info; v >= (3, 11) and v < (3, 15) and print("$(p)")' 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
LOCKED ?= --upgrade

.PHONY: help setup up lab report prove bench secrets test test-slow test-notebooks test-compose test-rebuild lint format lock clean

help:  ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.14 was not found: install it, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make a virtual environment: install its venv package (Debian, Ubuntu: apt install python3-venv), or name another one: make PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV)

# The stamps say which lock file was installed; a changed lock installs again.
$(VENV)/.runtime: requirements.txt pyproject.toml | $(BIN)/python
	@echo "Installing the environment into $(VENV)/ ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	@echo "Installing the development tools into $(VENV)/ ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

$(VENV)/.notebooks: requirements-jupyter.txt $(VENV)/.runtime
	@echo "Installing JupyterLab into $(VENV)/ ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-jupyter.txt
	@touch $@

setup: $(VENV)/.runtime  ## the environment, in .venv/

up: setup  ## the whole pipeline on this machine, on servers of its own where none are named
	@exec $(BIN)/infamous up $(ARGS)

lab: $(VENV)/.notebooks  ## the notebooks in JupyterLab, connected to the data of `make up`
	@exec $(BIN)/infamous lab $(ARGS)

report: $(VENV)/.notebooks  ## what the notebooks find in the last days, as one page; ARGS="--since 30d --open"
	@exec $(BIN)/infamous report $(ARGS)

prove: setup  ## ill-treat a pipeline of its own for a minute and account for every event
	@exec $(BIN)/infamous prove $(ARGS)

# Other people's ways of doing the same, in an environment of their own; only when asked for.
bench/.venv/.peers: bench/requirements-peers.txt | $(BIN)/python
	@echo "Installing what is measured beside us into bench/.venv/ ..."
	@$(BIN)/python -m venv bench/.venv
	@bench/.venv/bin/python -m pip install --quiet --disable-pip-version-check -r bench/requirements-peers.txt
	@touch $@

bench: setup $(if $(findstring --peers,$(ARGS)),bench/.venv/.peers)  ## how fast it is on this machine, beside the servers' own limits; ARGS="--quick": two minutes
	@exec $(BIN)/python -P -m bench $(ARGS)

secrets:  ## passwords for `docker compose up`, made once, in secrets/
	@sh docker/secrets.sh

test: $(VENV)/.dev  ## all tests, against real servers that they start themselves
	$(BIN)/python -m pytest $(ARGS)

test-notebooks: $(VENV)/.dev  ## every notebook and the report, on a planted history, on little and on nothing
	$(BIN)/python -m pytest -n 2 --timeout 600 tests/notebooks $(ARGS)

test-slow: $(VENV)/.dev  ## what takes longer: the proof, a Redis Cluster, PgBouncer, a replica, the lab, the bench
	$(BIN)/python -m pytest -n 2 --timeout 600 tests/slow --ignore tests/slow/test_rebuild.py $(ARGS)

test-compose: $(VENV)/.dev  ## the whole system in containers, where a Docker engine answers
	$(BIN)/python -m pytest -n 0 --timeout 1800 tests/compose $(ARGS)

test-rebuild: $(VENV)/.dev  ## a million archived events rebuild an emptied table, twice, while live ones flow
	INFAMOUS_REBUILD_EVENTS=1000000 $(BIN)/python -m pytest -n 0 -s --timeout 3000 tests/slow/test_rebuild.py $(ARGS)

lint: $(VENV)/.dev  ## style, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## rewrite the code in the house format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# --universal: one file for Python 3.11 to 3.14 on every platform; hashes, and no address of any index.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
       --no-header pyproject.toml --group build

lock: $(VENV)/.dev  ## resolve the requirements again; LOCKED= keeps the versions where they still fit
	$(LOCK) $(LOCKED) --extra analytics --extra embedded --output-file requirements.txt
	$(LOCK) $(LOCKED) --constraint requirements.txt --output-file requirements-service.txt
	$(LOCK) $(LOCKED) --extra analytics --extra notebooks --constraint requirements.txt \
	        --output-file requirements-jupyter.txt
	$(LOCK) $(LOCKED) --extra analytics --extra embedded --extra notebooks --group dev --constraint requirements.txt \
	        --constraint requirements-jupyter.txt --output-file requirements-dev.txt

clean:  ## remove the environment and caches; the data folder .infamous/ stays
	rm -rf $(VENV) bench/.venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info
