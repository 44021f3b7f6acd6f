# Everything runs in a virtual environment, which the first command makes; delete it to begin anew.
#
#     make test ARGS="-k worker"               hands arguments to pytest
#     make test DJANGO=6.1 PYTHON=python3.13   with another Django, in an environment of its own
#     make test PSYCOPG=2                      with PostgreSQL's older driver, likewise
#     DATABASE_URL=... make test               on that database only

PYTHON  ?= python3
DJANGO  ?=
PSYCOPG ?=
VENV    ?= .venv$(addprefix -django-,$(DJANGO))$(addprefix -psycopg-,$(PSYCOPG))
ARGS    ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test faults check bench bench-peers format migrations

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /    make \1\t/p' $(MAKEFILE_LIST)

demo: $(VENV)/.run-time ## index the standard library of this Python, as jobs
	@$(BIN)/python -m examples.demo $(ARGS)

test: $(VENV)/.development mysqlclient ## run the tests, on every database that is to be had
	@$(BIN)/python -m tests.run $(ARGS)

faults: $(VENV)/.development mysqlclient ## inject faults; ARGS=--long for all the figures (40 minutes)
	@$(BIN)/python -m tests.faults $(ARGS)

check: $(VENV)/.development ## lint, format and types, without changing anything
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	DJANGO_SETTINGS_MODULE=tests.settings $(BIN)/mypy
	DJANGO_SETTINGS_MODULE=examples.settings $(BIN)/mypy examples
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/.development mysqlclient ## measure with a quarter of the jobs, side by side with a bare loop (some 6 minutes)
	@$(BIN)/python -m benchmarks --part 0.25 $(ARGS)

bench-peers: $(VENV)/.development mysqlclient ## measure with all of the jobs, and other queues beside it (some 25 minutes)
	@$(BIN)/python -m benchmarks --peers $(ARGS)

format: $(VENV)/.development ## put the code in its format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

migrations: $(VENV)/.development ## see that the models have no changes without a migration
	$(BIN)/python -m django makemigrations --check --dry-run --settings tests.settings

# The demo gets what a user gets: the run time dependencies and no more.
$(VENV)/.run-time: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --editable .
	@touch $@

$(VENV)/.development: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --editable '.[dev]' $(DJANGO:%='Django~=%.0')
ifeq ($(PSYCOPG),2)
	$(PIP) uninstall --yes psycopg psycopg-binary
	$(PIP) install psycopg2-binary
endif
	@touch $@

# It needs a compiler and headers. Where they are missing the tests run without MariaDB, and say so.
# Without a stamp: once somebody has installed the headers, the next run succeeds.
.PHONY: mysqlclient
mysqlclient: $(VENV)/.development
	@$(BIN)/python -c 'import MySQLdb' 2> $(VENV)/mysqlclient.log \
	|| $(PIP) install mysqlclient > $(VENV)/mysqlclient.log 2>&1 \
	|| echo 'mysqlclient cannot be built here; why: $(VENV)/mysqlclient.log'
