# One-command set-up: every target below creates .venv and installs what it needs first.
PYTHON ?= python3.11
ifeq (, $(shell command -v $(PYTHON)))
PYTHON := python3
endif
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BROWSER := $(VENV)/.browser

.PHONY: crosscheck test test-all test-isa lint format clean

crosscheck: $(INSTALLED)
	$(BIN)/crosscheck

test: $(INSTALLED) $(BROWSER)
	$(BIN)/python -m pytest -n auto --dist loadfile

test-all: $(INSTALLED) $(BROWSER)
	TESTS_COMPILE=as-for-users $(BIN)/python -m pytest -n auto --dist loadfile -m "slow or not slow"

test-isa: $(INSTALLED)
	$(BIN)/python -m tests.isa

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# Chromium for the tests of the report page, where this is Debian and we may install; without it they skip.
$(BROWSER): $(INSTALLED)
	@if ! command -v chromium && ! command -v chromium-browser && ! command -v google-chrome \
	  && command -v apt-get && [ "$$(id -u)" = 0 ]; then \
	  timeout 300 apt-get update && \
	  DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install --yes --no-install-recommends chromium; \
	fi > $@.log 2>&1 < /dev/null || echo "no Chromium ($@.log says why): the browser tests skip"
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
