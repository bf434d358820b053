# Each target sets itself up: only Python >= 3.11, make and a package manager are assumed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Hubs, agents and workers start by the hundred: bytecode that is kept spares each the compiling.
unexport PYTHONDONTWRITEBYTECODE

# More test processes than cores: half of what they do is wait for real brokers and devices.
WORKERS ?= 4

.PHONY: demo example-maintenance example-vision test test-arm64 test-doors story-loop test-zoo test-long screenshots sim fuzz mutants crash-matrix bench bench-update bench-serving bench-gates bench-signals bench-real bench-trust bench-api bench-feeds bench-links bench-scale soak deb lint format setup setup-demo constraints clean

demo: setup-demo
	@deploy/need mosquitto
	@$(BIN)/muster demo $(if $(KEEP),--keep)

# A pump line with a PLC, a model that it trains, a bad version, injected wear; ends with EXAMPLE OK.
example-maintenance: setup
	@deploy/need mosquitto
	$(BIN)/python examples/predictive-maintenance/run.py $(ARGS)

# A cell whose camera drops pictures, a PLC, a lamp that fades, a retrained model; ends with EXAMPLE OK.
example-vision: setup
	@deploy/need mosquitto
	$(BIN)/python examples/visual-quality-control/run.py $(ARGS)

test: setup
	@deploy/need mosquitto strace postgresql softhsm2 openssl-pkcs11 chromium
	$(BIN)/pytest -n $(WORKERS) --dist worksteal $(ARGS)

# Doors: counterparts nobody here wrote, such as Prometheus, speak with the product.
test-doors: setup
	@deploy/need prometheus prometheus-alertmanager mosquitto curl tinyproxy haproxy postgresql
	$(BIN)/pytest -m doors tests/doors $(ARGS)

# From drift to a better model and to the auditor's record, with a real Airflow: docs/loop.md.
story-loop: setup
	@deploy/need mosquitto
	$(BIN)/pytest -s -m doors tests/doors/mlops/test_loop_story.py $(ARGS)

# The zoo: models that others made, from packages on the index, packed, checked and served.
test-zoo: setup
	$(BIN)/pytest -m doors tests/doors/zoo $(ARGS)

# The agent's package for arm64, emulated, against a hub and a plant that aren't; as root.
test-arm64: setup
	@deploy/need mosquitto mmdebstrap qemu-aarch64-static
	$(BIN)/pytest -m arm64 tests/arm64 $(ARGS)

# Whole stories of real processes: the demo to its end, killed, interrupted; chaos; a restored hub.
test-long: setup
	@deploy/need mosquitto
	@command -v apt-get >/dev/null || exit 0; deploy/need mmdebstrap piuparts
	$(BIN)/pytest -m long $(ARGS)

# Writes the pictures that docs/console.md shows, in light and dark, from the browser's stories.
screenshots: setup
	@deploy/need chromium
	@mkdir -p docs/pictures
	MUSTER_SCREENSHOTS=docs/pictures $(BIN)/pytest tests/browser $(ARGS)

crash-matrix: setup
	@deploy/need strace
	MUSTER_CRASH_ALL=1 $(BIN)/pytest -n 2 tests/crash $(ARGS)

# 20,000 hostile messages through a hub on each database. SEED=n chooses them, MESSAGES=n how many.
fuzz: setup
	@deploy/need postgresql
	cd tests && PYTHONPATH=. ../$(BIN)/python -m fuzz.run $(if $(SEED),--seed $(SEED)) \
	  $(if $(MESSAGES),--messages $(MESSAGES)) $(ARGS)

# SEED=n replays one seed with its timeline; SEEDS=a..b lives those; neither: 500 and the planted bugs.
sim: setup
	cd tests && PYTHONPATH=. ../$(BIN)/python -m sim.run $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)

# Breaks the product line by line; tests must notice. ONLY=permit tries those so named; see ARGS=--list.
mutants: setup
	@deploy/need mosquitto
	cd tests && PYTHONPATH=. ../$(BIN)/python -m mutants.run $(if $(ONLY),--only "$(ONLY)") $(ARGS)

bench: setup
	@deploy/need mosquitto
	$(BIN)/python -m bench $(ARGS)

bench-update: setup
	@deploy/need mosquitto
	$(BIN)/python -m bench update $(ARGS)

bench-serving: setup
	$(BIN)/python -m bench serving $(ARGS)

bench-gates: setup
	$(BIN)/python -m bench.gates $(ARGS)

bench-signals: setup
	$(BIN)/python -m bench signals $(ARGS)

# DIR: a folder with index.json and a CSV a run; docs/drift.md says how.
bench-real: setup
	$(BIN)/python -m bench real $(DIR) $(ARGS)

bench-trust: setup
	@deploy/need mosquitto
	$(BIN)/python -m bench.trust $(ARGS)

bench-api: setup
	$(BIN)/python -m bench.api $(ARGS)

bench-feeds: setup
	@deploy/need mosquitto
	$(BIN)/python -m bench feeds $(ARGS)

# As root, or where anybody may make network namespaces.
bench-links: setup
	@deploy/need mosquitto
	$(BIN)/python -m bench links $(ARGS)

# All sizes write results, docs/scale.md and its plot; ARGS="--devices 1000 --steady 20" is a small one.
bench-scale: setup
	@deploy/need mosquitto postgresql
	$(BIN)/python -m bench.scale $(ARGS)

# A fleet for half an hour, rollouts, drift, kills; one line of verdict. ARGS="--devices 500 --minutes 5"
soak: setup
	@deploy/need mosquitto
	$(BIN)/python -m bench.soak $(ARGS)

# Packages of agent and hub for amd64 and arm64, in build/deb, for the Python that PYTHON names.
deb: setup
	@deploy/need dpkg lintian
	$(BIN)/python deploy/deb/build.py --to build/deb $(ARGS)
	lintian --fail-on error,warning build/deb/*.deb

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup:
	@$(PYTHON) .ci/prepare $(VENV)

# What make demo needs, and no more: half of it all.
setup-demo:
	@$(PYTHON) .ci/prepare $(VENV) demo

constraints:
	uv pip compile pyproject.toml --universal --python-version 3.11 --extra demo --extra aws --extra camera --extra images --extra modbus --extra opcua --extra postgres --extra hsm \
	  --extra parquet --group dev --generate-hashes --no-emit-index-url --no-header --no-annotate -o constraints.txt
	uv pip compile pyproject.toml --universal --python-version 3.11 --extra demo --group build -c constraints.txt \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate -o constraints-demo.txt

clean:
	rm -rf build $(VENV) $(VENV).lock .mypy_cache .ruff_cache .pytest_cache .hypothesis
