# make quickstart   install into .venv and train two small protein models on the embedded sample
# make test         install what the tests need and run them
# make demo-circuits  what threshold circuits say about Llama, Qwen, ESM-2 and LC-PLM
# make demo-squeezed  ask a long document questions; DEMO_MODEL=gemma3-270m: 30k tokens
# make demo-focused  fine-tune a small model to ignore distractors, beside plain fine-tuning
# make docs         build the documentation site into site/
.PHONY: help setup setup-dev quickstart demo-circuits demo-squeezed demo-focused lint test test-all bench docs clean
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# PIP_ARGS passes options to pip, for example the address of PyTorch's CPU wheels.
PIP_ARGS ?=

help:
	@sed -n 's/^# //p' Makefile

$(VENV)/.base: pyproject.toml constraints.txt scripts/setup_env.sh
	@PYTHON="$(PYTHON)" PIP_ARGS="$(PIP_ARGS)" bash scripts/setup_env.sh $(VENV) base

$(VENV)/.dev: pyproject.toml constraints.txt scripts/setup_env.sh
	@PYTHON="$(PYTHON)" PIP_ARGS="$(PIP_ARGS)" bash scripts/setup_env.sh $(VENV) dev

setup: $(VENV)/.base
setup-dev: $(VENV)/.dev

quickstart: $(VENV)/.base
	@bash scripts/quickstart.sh $(BIN)

demo-circuits: $(VENV)/.base
	@bash scripts/demo_circuits.sh $(BIN)

DEMO_MODEL ?= smollm2
demo-squeezed: $(VENV)/.base
	@bash scripts/demo_squeezed.sh $(BIN) $(DEMO_MODEL)

demo-focused: $(VENV)/.base
	@bash scripts/demo_focused.sh $(BIN)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

test-all: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m ""

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/scan_cpu.py
	$(BIN)/python benchmarks/protein_data.py
	$(BIN)/python benchmarks/circuit_evaluator.py

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Read it: $(BIN)/python -m http.server -d site, then http://localhost:8000"

clean:
	rm -rf build dist site .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
