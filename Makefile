# Every target makes what it needs: a virtual environment in .venv, with the versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[neural,service,experiments,tracing,embedded,confluent,dev]'
	@touch $@

.PHONY: help install demo test faults fuzz bench contracts cli sbom audit check format clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## the virtual environment .venv, with everything in it

demo: $(INSTALLED) ## the main job, start to end, on an embedded broker and Redis
	@$(BIN)/hitparade demo

test: $(INSTALLED) ## the tests; with Apache Kafka too, where HITPARADE_TEST_KAFKA (../shared/kafka) has it
	$(BIN)/pytest

faults: $(INSTALLED) ## kill, stop and starve everything on Apache Kafka and Valkey; SEED=1, QUICK=1, ONLY=name
	$(BIN)/pytest tests/faults --quiet --no-header --numprocesses 2 --dist loadgroup --seed $(or $(SEED),1) \
		$(if $(QUICK),--quick) $(if $(ONLY),-k "$(ONLY)")

fuzz: $(INSTALLED) ## ask the HTTP service for what nobody would think of; N=500 examples of each operation
	HITPARADE_TEST_FUZZ=$(or $(N),500) $(BIN)/pytest tests/test_service_fuzz.py --numprocesses 0 --timeout 3600

bench: $(INSTALLED) ## speed beside others', measured here; ONLY=name for one (peers, weekly, latency, lines, scale, recovery, forecast, duplicates, caps, listeners, http, experiments), ONLY=all
	@$(BIN)/python -m benchmarks $(ONLY)

contracts: $(INSTALLED) ## write docs/asyncapi.yaml and docs/schemas anew
	$(BIN)/python -m producers.contracts

cli: $(INSTALLED) ## write docs/cli.md anew
	$(BIN)/python -m hitparade.commands.page

sbom: $(INSTALLED) ## what is in the images, as build/sbom/counting.json and scoring.json (CycloneDX)
	@mkdir -p build/sbom
	@for image in counting scoring; do \
		$(BIN)/python -W ignore -m cyclonedx_py requirements deploy/requirements-$$image.txt --pyproject pyproject.toml \
			--output-reproducible --output-file build/sbom/$$image.json || exit 1; \
	done

audit: $(INSTALLED) ## known weaknesses of what is pinned; it fails where that cannot be known
	$(BIN)/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement deploy/requirements-scoring.txt

check: $(INSTALLED) ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## mend what the formatter and the linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the virtual environment and all caches
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
