# Turnmill's commands. They need Python 3.11 or newer, make, and pip (or uv, which is faster).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PINS := constraints/build.txt constraints/worker.txt constraints/dev.txt
STAMP := $(VENV)/installed

.DEFAULT_GOAL := help
.PHONY: help install demo test bench bench-full bench-pair check format sync docs constraints clean chaos mutants celery-suite connections

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Make .venv with everything in it, at the pinned versions

$(STAMP): pyproject.toml tools/install.sh $(PINS)
	@tools/install.sh "$(PYTHON)" $(VENV)
	@touch $@

demo: install ## Run real conversations through the real queue, here
	@$(BIN)/turnmill demo $(DEMO_ARGS)

test: install ## Run the tests; PYTEST_ARGS="-k lease -x" narrows them
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses 4 --dist worksteal $(PYTEST_ARGS)

check: install ## Lint, format, types, imports, file sizes, what is generated
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/file_size.py
	$(BIN)/python tools/sync.py --check
	$(BIN)/python tools/api_reference.py --check

connections: install ## Every way to database and broker, on real servers
	$(BIN)/python -m tools.connections

chaos: install ## Faults at random, in traffic of two kinds: MINUTES=10 SEED=1
	$(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1)

mutants: install ## Break the protocol on purpose: a test notices each mutant
	$(BIN)/python -m tests.mutants

celery-suite: install ## Celery's own tests, on the pool; CELERY=its source
	$(BIN)/python -m tools.celery_suite $(CELERY) $(CELERY_SUITE_ARGS)

bench: install ## Measure beside plain Celery, in less than six minutes
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.render

bench-full: install ## The same at every latency and load, up to a million turns
	$(BIN)/python -m benchmarks --full
	$(BIN)/python -m benchmarks.render

bench-pair: install ## Measure this tree and BASE=<commit>, in eight minutes
	$(BIN)/python -m benchmarks.pair "$(BASE)"

format: install ## Let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

sync: install ## Make the client for threads from the one for asyncio
	$(BIN)/python tools/sync.py

docs: install ## Write the API reference from the docstrings
	$(BIN)/python tools/api_reference.py

constraints: ## Pin anew all that is installed, with hashes
	@tools/pin.sh "$(PYTHON)"

clean: ## Remove .venv, builds and caches
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find api_client worker tests tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
