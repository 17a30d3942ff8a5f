# Every task of the project, for people and for CI. Each needs only Python 3.11 or later.
#   make demo PYTHON=python3.13 VENV=.venv-3.13   uses another Python and another environment

PYTHON ?= python3
VENV ?= .venv
# How many calls `test-sampled` samples: a profile of tests/conftest.py.
SAMPLES ?= thorough
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

# XLA compiles on one core, which takes most of the tests' time: so tests run in two processes.
IN_TWO := --numprocesses 2 --dist worksteal
# The same, where the tests of one file share compiled functions.
BY_FILE := --numprocesses 2 --dist loadfile

# An empty file in the environment marks each extra that is installed.
installed = $(VENV)/.installed-$(1)

.PHONY: demo test test-slow test-triton test-sampled test-peers test-notebooks test-wheel test-gpu notebooks lint \
	format bench bench-all bench-gpu clean

demo: $(call installed,base)
	$(BIN)/zoo classify examples/cat.jpg

test: $(call installed,test)
	$(PYTEST) --unoptimised $(BY_FILE) -m "not (peer or notebook or gpu or triton or slow)"

test-slow: $(call installed,test)
	$(PYTEST) --unoptimised $(IN_TWO) -m "slow and not (peer or notebook or gpu or triton)"

test-triton: $(call installed,test)
	$(PYTEST) --unoptimised $(IN_TWO) -m triton

test-sampled: $(call installed,test)
	HYPOTHESIS_PROFILE=$(SAMPLES) $(PYTEST) --unoptimised $(IN_TWO) -m sampled

test-peers: $(call installed,test) $(call installed,peers)
	$(PYTEST) --unoptimised $(IN_TWO) -m peer

test-notebooks: $(call installed,test)
	$(PYTEST) -m notebook tests/notebooks
	$(PYTEST) --unoptimised $(IN_TWO) -m notebook tests/docs

# Builds the wheel, installs it into an environment of its own, and uses it outside the checkout.
test-wheel: $(call installed,base)
	scripts/test_wheel.sh $(BIN)/python

# Executes the notebooks, and stores their outputs to be committed.
notebooks: $(call installed,notebooks)
	$(BIN)/python scripts/run_notebooks.py

test-gpu: $(call installed,test)
	$(PYTEST) -m gpu

lint: $(call installed,dev)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(call installed,dev)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Five minutes: two models beside flax and PyTorch, three operators, classifying photos.
bench: $(call installed,peers)
	$(BIN)/python -m benchmarks.models --models MobileNetV2,ResNet50 --rounds 5 \
		--passes "inference, fused" "training step"
	$(BIN)/python -m benchmarks.operators --peers lax,torch --options --rounds 5 --only 14²x
	$(BIN)/python -m benchmarks.models.classify --rounds 5

# Hours: the benchmarks on a CPU that benchmarks/README.md shows.
bench-all: $(call installed,peers)
	$(BIN)/python -m benchmarks.models --batches 1,8,32 --peers flax,torch,torch-compiled
	$(BIN)/python -m benchmarks.models.scaling --peers torch
	$(BIN)/python -m benchmarks.models.latency --starts 5
	$(BIN)/python -m benchmarks.operators --peers lax,torch --options
	$(BIN)/python -m benchmarks.models.classify
	$(BIN)/python -m benchmarks.models.weights
	$(BIN)/python -m benchmarks.training loop
	$(BIN)/python -m benchmarks.training input
	$(BIN)/python -m benchmarks.training libraries
	$(BIN)/python -m benchmarks.visualize
	$(BIN)/python -m benchmarks.style
	$(BIN)/python -m benchmarks.detection

bench-gpu: $(call installed,peers)
	$(BIN)/python -m benchmarks.operators --device gpu --peers lax,torch
	$(BIN)/python -m benchmarks.models --device gpu --dtypes float32,bfloat16 \
		--peers torch,torch-compiled
	$(BIN)/python -m benchmarks.models.scaling --device gpu --peers torch

clean:
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jax-zoo needs Python 3.11 or later, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

$(call installed,base): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-%: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@
