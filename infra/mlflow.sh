#!/usr/bin/env bash
# The MLflow UI of this machine: mlflow.sh start | stop. It reads and writes runs/mlflow.db and runs/mlartifacts; where
# infra/postgres.sh serves, its database is there, and its files are in the bucket of infra/s3.sh.
source "$(dirname "${BASH_SOURCE[0]}")/service.sh"

case "${1:-}" in
    start)
        export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false # with --workers 1: 4 processes instead of 17
        database="sqlite:///$state/mlflow.db" files="$state/mlartifacts"
        if pid_of postgres >/dev/null; then database="$(infra/postgres.sh url psycopg2 mlflow)"; fi
        if pid_of postgres >/dev/null && pid_of s3 >/dev/null; then
            use_local_s3
            files="s3://neuromod/mlflow" MLFLOW_S3_ENDPOINT_URL="$AWS_ENDPOINT_URL"
            export MLFLOW_S3_ENDPOINT_URL
        fi
        # the address holds a password: it goes by the environment, which other users cannot read
        MLFLOW_BACKEND_STORE_URI="$database" start mlflow "$MLFLOW_PORT" /health "$bin/mlflow" server --host 127.0.0.1 \
            --port "$MLFLOW_PORT" --workers 1 --artifacts-destination "$files"
        ;;
    stop) stop mlflow ;;
    *) echo "usage: infra/mlflow.sh start|stop" >&2 && exit 2 ;;
esac
