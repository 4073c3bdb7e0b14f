# The one list of commands. `make` alone shows them.
#
# Two interpreters on purpose: Snakemake needs Python 3.11, the programs run on older ones too (see ARCHITECTURE.md).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

WORKFLOW := .venv/workflow/bin/python
TRAIN := .venv/train/bin/python
# snakefmt calls shfmt, which lies beside it.
export PATH := $(CURDIR)/.venv/train/bin:$(PATH)
SNAKEMAKE := $(WORKFLOW) -m snakemake
SNAKEFILES := Snakefile workflow/rules
PYTHON_FOLDERS := stdc workflow tests benchmarks

# Options for snakemake and pytest: make run ARGS="--config seeds=[0,1]", make test ARGS="-k lists".
ARGS :=

.PHONY: help setup run test lint format types parity torture chaos bench images image-test lock docs clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make both environments from the hash locks; does nothing when they are there
	@requirements/install.sh workflow build.lock workflow.lock
	@requirements/install.sh train paddle-cpu.lock dev.lock

run: setup ## run the workflow: generated dataset, CPU, minutes
	@$(SNAKEMAKE) --cores all $(ARGS)

test: setup lint ## set up, lint, and run every test
	@$(TRAIN) -m pytest $(ARGS)

lint: setup ## style, formatting, Python 3.8 floor, types, Snakemake's and Docker's linters
	@ruff check .
	@ruff format --check .
	@ruff check --quiet --isolated --select E9 --target-version py38 stdc workflow/scripts
	@snakefmt --check $(SNAKEFILES)
	@mypy --no-error-summary stdc
	@$(WORKFLOW) workflow/lib/lint.py
	@$(WORKFLOW) workflow/lib/reference.py --check
	@if compgen -G 'docker/*.Dockerfile' > /dev/null; then hadolint docker/*.Dockerfile; fi

format: setup ## rewrite the sources in the house's format
	@ruff check --fix .
	@ruff format .
	@snakefmt $(SNAKEFILES)

types: setup ## check the types of stdc/
	@mypy stdc

parity: setup ## compare with independent implementations side by side (installs the peers beside; 4 minutes)
	@tests/parity/setup.sh
	@$(TRAIN) tests/parity/run_parity.py $(ARGS)

images: ## build the images cpu, cuda and corex (ARGS="--engine buildah" where there is no daemon)
	@for image in cpu cuda corex; do docker/build.sh $(ARGS) $$image; done

docs: setup ## write the table of keys in config/README.md anew from the schema
	@$(WORKFLOW) workflow/lib/reference.py

lock: ## resolve requirements/*.in anew (ARGS=--upgrade for newer versions); needs uv
	@requirements/lock.sh $(ARGS)

clean: ## remove what runs made in this folder; keeps the environments and the checkpoints in runs/
	@rm -rf results resources logs .snakemake .stdc.lock
