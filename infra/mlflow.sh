#!/usr/bin/env bash
# The MLflow UI of this machine: mlflow.sh start | stop. It reads and writes runs/mlflow.db.
source "$(dirname "${BASH_SOURCE[0]}")/service.sh"

case "${1:-}" in
    start)
        export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false # with --workers 1: 4 processes instead of 17
        start mlflow "$MLFLOW_PORT" /health "$bin/mlflow" server --host 127.0.0.1 --port "$MLFLOW_PORT" --workers 1 \
            --backend-store-uri "sqlite:///$state/mlflow.db" --artifacts-destination "$state/mlartifacts"
        ;;
    stop) stop mlflow ;;
    *) echo "usage: infra/mlflow.sh start|stop" >&2 && exit 2 ;;
esac
