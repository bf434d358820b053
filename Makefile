# Each target sets itself up: only Python >= 3.11, make and a package manager are assumed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test bench lint format setup constraints clean
.DELETE_ON_ERROR:

demo: setup
	@deploy/need mosquitto
	@$(BIN)/muster demo $(if $(KEEP),--keep)

test: setup
	@deploy/need mosquitto strace
	$(BIN)/pytest -n 2 --dist worksteal $(ARGS)

bench: setup
	@deploy/need mosquitto
	$(BIN)/python -m bench $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(VENV)/.ready

$(VENV)/.ready: constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "muster needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12"; exit 1; }
	@echo "Preparing $(VENV) (once; about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

constraints:
	uv pip compile pyproject.toml --universal --python-version 3.11 --extra demo --extra postgres \
	  --group dev --generate-hashes --no-emit-index-url --no-header --no-annotate -o constraints.txt

clean:
	rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
