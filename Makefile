# One command per wish; `make help` lists them. The shell behind a target is in infra/.

PYTHON ?= python3.11
POOL ?= $(if $(GPU),gpu,local)
KILLS ?= 200
HF_HUB_OFFLINE ?= 1
BIN := .venv/bin

export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export HF_HUB_OFFLINE PREFECT_PORT MLFLOW_PORT S3_PORT POSTGRES_PORT

.DEFAULT_GOAL := help
.PHONY: help setup reproduce smoke test test-all test-platform soak check up up-pg down status worker report

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.venv/.ready: requirements.lock pyproject.toml
	@infra/setup.sh $(PYTHON)
	@touch $@

setup: .venv/.ready ## make .venv from requirements.lock (PYTHON=python3.11 chooses the interpreter)

reproduce: setup ## run the reference study on the embedded model and say where its report is
	@infra/study.sh reproduce

smoke: setup ## run the same path in a minute or two, with too few units to conclude anything
	@infra/study.sh smoke

test: setup ## run the fast suite
	@$(BIN)/pytest -m "not slow and not platform"

test-platform: setup ## run the tests of stores and servers: real processes on loopback, minutes
	@$(BIN)/pytest -m platform tests/platform

soak: setup ## kill workers of tiny studies at random moments, KILLS=200 times, and compare the root hashes
	@NEUROMOD_KILLS=$(KILLS) $(BIN)/pytest -m platform tests/platform/test_soak.py

test-all: setup ## run every test, also the slow ones
	@$(BIN)/pytest

check: setup ## everything a commit needs: format, lint, types, layers, fast suite
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/pytest -m "not slow and not platform"

up: setup ## start S3 (S3_PORT=8333), Prefect (PREFECT_PORT=4200) and MLflow (MLFLOW_PORT=5000) and register the deployments
	@infra/s3.sh start
	@infra/prefect.sh start
	@infra/mlflow.sh start
	@infra/deploy.sh

up-pg: setup ## the same with PostgreSQL (POSTGRES_PORT=5433) below Prefect and MLflow, and MLflow's files in the bucket
	@infra/postgres.sh start
	@$(MAKE) --no-print-directory up

down: ## stop what `make up` or `make up-pg` started
	@for service in mlflow prefect s3 postgres; do infra/$$service.sh stop; done

status: setup ## say what serves and what runs: services, pools, workers, runs and their shards
	@$(BIN)/neuromod status

worker: setup ## execute deployed runs, one at a time, until interrupted (GPU=0 names a device; POOL=local or gpu)
	@infra/worker.sh $(POOL) $(GPU)

report: ## print the path of the newest report
	@infra/report.sh
