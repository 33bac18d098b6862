#!/usr/bin/env bash
# Create the work pools that prefect.yaml names, register its deployments and say how to use them. Safe to repeat.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

export PREFECT_API_URL="$local_prefect_api"
unset NEUROMOD_HOME # left in the deployment as a template: each worker fills in its own clone
create() { # create POOL TYPE [OPTION...]
    "$bin/prefect" --no-prompt work-pool inspect "$1" >/dev/null 2>&1 ||
        "$bin/prefect" --no-prompt work-pool create "$1" --type "${@:2}" >/dev/null
}
create local process
create gpu process
create k8s kubernetes --base-job-template infra/kubernetes/pool.json
report="$("$bin/prefect" --no-prompt deploy --all 2>&1)" || { echo "$report" >&2 && exit 1; }

cat <<END
Prefect  http://127.0.0.1:$PREFECT_PORT    study/local, study/gpu, study/k8s, calibrate, report, audit; served by: make worker
MLflow   http://127.0.0.1:$MLFLOW_PORT
S3       http://127.0.0.1:$S3_PORT    bucket neuromod
To reach all of it from a shell:
    export PREFECT_HOME=$PREFECT_HOME PREFECT_API_URL=$PREFECT_API_URL
    eval "\$(infra/keys.sh)"    # AWS_ENDPOINT_URL and access keys of the bucket
END
