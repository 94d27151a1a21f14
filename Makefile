# Two commands matter: `make demo` and `make test`. Both install what they need, and both are quick the second time.
VENV := .venv
PYTHON := $(VENV)/bin/python
ARGS ?=
.DEFAULT_GOAL := help

.PHONY: help install demo first-day up test test-full screenshots lint migrations lock hooks bench-install bench clean

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# torch has no hash in the lock files: its build differs by platform, and a build with CUDA needs packages that others do
# not. Its version is pinned in requirements.txt. The lock files hold its dependencies, so it is installed after them.
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
TORCH = "$$(grep '^torch==' requirements.txt)"
$(VENV)/.runtime: requirements.lock
	@test -x $(PYTHON) || python3 -m venv $(VENV)
	@echo "Installing (about a minute) ..."
	@$(PYTHON) $(PIP_INSTALL) --require-hashes -r requirements.lock
	@$(PYTHON) $(PIP_INSTALL) $(TORCH)
	@touch $@

$(VENV)/.development: $(VENV)/.runtime requirements-dev.lock
	@echo "Installing the packages of the tests ..."
	@$(PYTHON) $(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@$(PYTHON) $(PIP_INSTALL) --no-deps --no-build-isolation --editable clients/python
	@touch $@

$(VENV)/.benchmark: $(VENV)/.development requirements-bench.txt requirements-bench-attribution.txt
	@echo "Installing the ledgers and the attribution libraries to compare with ..."
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-bench-attribution.txt
	@touch $@

install: $(VENV)/.runtime  ## create .venv with what the product needs

demo: $(VENV)/.runtime  ## the whole job on real data, then the portal (ARGS="--once --json FILE" exits instead)
	@$(PYTHON) manage.py demo $(ARGS)

first-day: $(VENV)/.development  ## the pages of docs/start, run from an empty database to a paid month (ARGS="--once --json FILE")
	@$(PYTHON) -m tests.first_day $(ARGS)

up: $(VENV)/.runtime  ## database, broker, web, worker and beat, without demo data
	@$(PYTHON) manage.py up $(ARGS)

test: $(VENV)/.development  ## every test, in parallel, against one embedded engine
	@tests/browser.sh
	@tests/gateways.sh
	@$(PYTHON) -m pytest -n 2 -m "not full" --durations=25 --cov --cov-report= $(ARGS) && $(PYTHON) -m tests.coverage

test-full: $(VENV)/.development  ## also the slow sizes of the fault, kill and retraining suites
	@tests/browser.sh
	@tests/gateways.sh
	@$(PYTHON) -m pytest -n 2 --timeout 3600 $(ARGS)

screenshots: $(VENV)/.development  ## the pictures of the README, taken by the browser tests
	@tests/browser.sh
	@TRIBUTARY_SCREENSHOTS=docs/images $(PYTHON) -m pytest tests/journeys

lint: $(VENV)/.development  ## ruff, mypy strict, import contracts, templates
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/lint-imports
	@cd clients/python/src && ../../../$(VENV)/bin/lint-imports --config ../pyproject.toml
	@$(VENV)/bin/vermin --quiet --no-tips --target=3.9- --violations clients/python/src
	@$(VENV)/bin/djlint --quiet --lint templates
	@DATABASE_ROLE= $(PYTHON) manage.py makemigrations --check --dry-run
	@$(VENV)/bin/mypy .
	@$(VENV)/bin/mypy $(addprefix --module tributary.,cli.main async_client integrations.torch integrations.transformers)

# From the lowest app up, so that each finds the tables that it refers to. The journal's own tables refer to people, so
# that its migration is put aside until people has one.
NEW_MIGRATION = TRIBUTARY_DATA=$$(mktemp -d) DATABASE_ROLE= $(PYTHON) manage.py makemigrations
migrations: $(VENV)/.runtime  ## write every app's 0001_initial anew, until the first release
	@rm -f */migrations/0001_initial.py
	@mv ledger/migrations/0000_journal.py ledger/migrations/journal.aside
	@trap 'mv ledger/migrations/journal.aside ledger/migrations/0000_journal.py' EXIT; $(NEW_MIGRATION) people
	@for app in config contributors attribution ledger payouts stripe_sandbox; do $(NEW_MIGRATION) $$app || exit 1; done

PIP_COMPILE = CUSTOM_COMPILE_COMMAND="make lock" $(PYTHON) -m piptools compile --quiet --generate-hashes --strip-extras \
	--no-allow-unsafe --unsafe-package torch --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options
lock: $(VENV)/.development  ## write the lock files anew from the requirements (needs a registry)
	@$(PIP_COMPILE) --output-file requirements.lock requirements.txt
	@$(PIP_COMPILE) --constraint requirements.lock --output-file requirements-dev.lock requirements-dev.txt

hooks: $(VENV)/.development  ## run `make lint` before every commit
	@$(VENV)/bin/pre-commit install

bench-install: $(VENV)/.benchmark  ## what the benchmarks compare with

bench: $(VENV)/.benchmark  ## every benchmark, quick size
	@for name in $$(cd benchmarks && ls *.py */__main__.py | grep -v __init__ | sed 's/\.py$$//; s,/__main__,,'); do $(PYTHON) -m benchmarks.$$name --quick || exit 1; done

clean:  ## remove the demo's data and every cache (not .venv)
	rm -rf var .cache staticfiles .mypy_cache .ruff_cache .pytest_cache .hypothesis
