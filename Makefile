# One command per wish; `make help` lists them. The shell behind a target is in infra/.

PYTHON ?= python3.11
POOL ?= local
HF_HUB_OFFLINE ?= 1
BIN := .venv/bin

export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export HF_HUB_OFFLINE PREFECT_PORT MLFLOW_PORT

.DEFAULT_GOAL := help
.PHONY: help setup reproduce smoke test test-all test-platform check up down worker report

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

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

test-all: setup ## run every test, also the slow ones
	@$(BIN)/pytest

check: setup ## everything a commit needs: format, lint, types, layers, fast suite
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/pytest -m "not slow and not platform"

up: setup ## start Prefect (PREFECT_PORT=4200) and MLflow (MLFLOW_PORT=5000) here and register the deployments
	@infra/prefect.sh start
	@infra/mlflow.sh start
	@infra/deploy.sh

down: ## stop what `make up` started
	@infra/mlflow.sh stop
	@infra/prefect.sh stop

worker: setup ## execute deployed runs, one at a time, until interrupted (POOL=local or gpu)
	@infra/worker.sh $(POOL)

report: ## print the path of the newest report
	@infra/report.sh
