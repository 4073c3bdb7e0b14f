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


# Options for snakemake and pytest: make run ARGS="--config seeds=[0,1]", make test ARGS="-k lists".
ARGS :=
# Test files that run at a time, as many as most machines of a CI have processors; more make tests run into their limits.
# make test TESTS_AT_A_TIME=1 on a machine with little memory (each takes up to 3 GB).
TESTS_AT_A_TIME := 2
# Results folder of make crate: make crate RESULTS=results/mini ARGS="--license <address of a license>"
RESULTS := results/mini

.PHONY: help setup run status test lint format types parity parity-loop torture chaos chaos-workers bench floor device-acceptance images image-test slurm-test kubernetes-test lock lock-cuda3 docs crate pictures clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make both environments from the hash locks; does nothing when they are there
	@requirements/install.sh workflow build.lock workflow.lock
	@requirements/install.sh train paddle-cpu.lock dev.lock

run: setup ## run the workflow: generated dataset, CPU, minutes
	@$(SNAKEMAKE) --cores all $(ARGS)

status: setup ## what every run is doing, and which run folders no result needs (ARGS="--watch" or "--json")
	@$(TRAIN) tools/status.py $(ARGS)

test: setup lint ## set up, lint, and run every test
	@$(TRAIN) -m pytest -n $(TESTS_AT_A_TIME) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup ## style, formatting, Python 3.8 floor, types, Snakemake's and Docker's linters
	@ruff check .
	@ruff format --check .
	@ruff check --quiet --isolated --select E9 --target-version py38 stdc workflow/scripts tools
	@snakefmt --check $(SNAKEFILES)
	@mypy --no-error-summary stdc
	@$(WORKFLOW) tools/lint.py
	@$(WORKFLOW) tools/key_table.py --check
	@hadolint docker/*.Dockerfile tests/containers/*.Dockerfile

format: setup ## rewrite the sources in the house's format
	@ruff check --fix .
	@ruff format .
	@snakefmt $(SNAKEFILES)

types: setup ## check the types of stdc/
	@mypy stdc

parity: setup ## compare with independent implementations side by side (installs the peers beside; 4 minutes)
	@tests/parity/setup.sh
	@$(TRAIN) tests/parity/run_parity.py $(ARGS)

parity-loop: setup ## train beside PaddleSeg on real footage, three seeds of each (STDC_REAL_DATA=<folder>; two hours of one core, resumable)
	@tests/parity/setup.sh
	@.venv/parity-paddle3/bin/python tests/parity/loop/run_loop.py $(ARGS)

bench: setup ## measure speed beside PaddleSeg into benchmarks/RESULTS.md (installs the peer beside; 40 minutes, ARGS=--quick 3)
	@tests/parity/setup.sh
	@OMP_NUM_THREADS=1 GLOG_minloglevel=2 PYTHONWARNINGS=ignore .venv/parity-paddle3/bin/python benchmarks/bench.py $(ARGS)

floor: ## run the unit tests on Python 3.8 with Paddle 2.6.2 and 2.4.2 (downloads 0.8 GB once); says so where there is no such Python
	@tests/floor/run.sh $(ARGS)

device-acceptance: setup ## try a device for the first time: ordered steps, figures with bounds, JSON (ARGS="--device gpu --devices 1"; 15 minutes)
	@$(TRAIN) tests/devices/acceptance.py $(ARGS)

torture: setup ## hundreds of damaged and hostile inputs against every program (ARGS="--help" for its options)
	@$(TRAIN) tests/reliability/torture.py $(ARGS)

chaos-workers: setup ## kill data workers alone, in one and two ranks: never a hang, always words (ARGS="--help" for its options)
	@$(TRAIN) tests/reliability/worker_kills.py $(ARGS)

chaos: setup ## kill the workflow at random instants; the results stay the same (ARGS="--help" for its options)
	@$(TRAIN) tests/reliability/chaos.py $(ARGS)

images: ## build the images python, cpu, cuda, and corex where COREX_BASE_IMAGE names the SDK's (ARGS="--engine buildah")
	@for image in python cpu cuda; do docker/build.sh $(ARGS) $$image; done
	@if [[ -n "$${COREX_BASE_IMAGE:-}" ]]; then docker/build.sh $(ARGS) corex; else \
		echo "images: corex left out: its base is not public; name yours by COREX_BASE_IMAGE (docker/README.md)"; fi

image-test: setup ## build the cpu image and run the mini recipe inside: same bytes as here (needs a Docker engine; 10 minutes)
	@STDC_IMAGE_TEST=1 $(TRAIN) -m pytest tests/containers $(ARGS)

slurm-test: setup ## run the tests on a SLURM cluster of two nodes on this machine, and the mini recipe through it (root; slurm-wlm, munge)
	@STDC_SLURM_MINI=1 $(TRAIN) -m pytest tests/slurm $(ARGS)

kubernetes-test: setup ## run deploy/kubernetes on a cluster of one node (KUBERNETES_BIN: its programs, DOCKER_DATA: an engine's folder with stdc:cpu)
	@STDC_KUBERNETES_TEST=1 $(TRAIN) -m pytest tests/kubernetes $(ARGS)

docs: setup ## write the table of keys in config/README.md anew from the schema
	@$(WORKFLOW) tools/key_table.py

crate: ## describe RESULTS=results/mini as an RO-Crate and validate it (installs rocrate and its validator beside)
	@requirements/install.sh crate crate.lock
	@.venv/crate/bin/python tools/crate.py $(RESULTS) $(ARGS)
	@.venv/crate/bin/python tests/crate/validate.py $(RESULTS)

pictures: setup ## draw the README's pictures anew from a finished `make run` (needs graphviz and chromium)
	@$(TRAIN) tools/pictures.py $(ARGS)

lock: ## resolve requirements/*.in anew (ARGS=--upgrade for newer versions); needs uv
	@requirements/lock.sh $(ARGS)

lock-cuda3: ## resolve requirements/paddle-cuda3.in where Paddle's own index can be reached: PADDLE_INDEX=<its address>
	@requirements/lock_cuda3.sh $(ARGS)

clean: ## remove what runs made in this folder; keeps the environments and the checkpoints in runs/
	@rm -rf results resources logs .snakemake .stdc.lock
