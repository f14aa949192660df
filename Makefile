# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
#
# `make demo` and `make test` need only make and Python >= 3.10: they set up .venv first.

VENV := .venv
# python of the environment, and what it gets beside the package: see extras_require in setup.py.
# `ros` is left out where ROS is sourced or has no wheels.
PYTHON ?= python3
EXTRAS ?= dev,ros
PYTEST_ARGS ?=

export PYTHON VENV EXTRAS
# Tests start some hundred processes of the package, which need not compile it again
unexport PYTHONDONTWRITEBYTECODE

.PHONY: env demo test test-all test-fast lint bench clean distclean

env:
	@scripts/setup_env.sh

demo: env
	$(VENV)/bin/recon3r demo --ros --output demo_output

test: env
	$(VENV)/bin/python -m pytest -n 3 --dist worksteal -m "not large" $(PYTEST_ARGS)

# With networks of their published sizes: some minutes, and 5 GB of memory, more
test-all: env
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

# All but what takes long: while working
test-fast: env
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal -m "not slow and not large" $(PYTEST_ARGS)

lint: env
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy

bench: env
	$(VENV)/bin/recon3r bench

clean:
	rm -rf build dist *.egg-info demo_output bench_output
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find recon3r_ros test -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
