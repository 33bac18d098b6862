#!/usr/bin/env bash
# Create the process work pools that prefect.yaml names, register its deployments and say how to use them. Safe to repeat.
# NEUROMOD_GPU (default 0) is the device of the deployment `gpu`.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

export PREFECT_API_URL="$local_prefect_api" NEUROMOD_GPU="${NEUROMOD_GPU:-0}"
unset NEUROMOD_HOME # left in the deployment as a template: each worker fills in its own clone
for pool in local gpu; do
    "$bin/prefect" --no-prompt work-pool inspect "$pool" >/dev/null 2>&1 ||
        "$bin/prefect" --no-prompt work-pool create "$pool" --type process >/dev/null
done
report="$("$bin/prefect" --no-prompt deploy --all 2>&1)" || { echo "$report" >&2 && exit 1; }

cat <<END
Prefect  http://127.0.0.1:$PREFECT_PORT    deployments study/local and study/gpu; execute their runs with: make worker
MLflow   http://127.0.0.1:$MLFLOW_PORT
To reach this server from a shell:
    export PREFECT_HOME=$PREFECT_HOME PREFECT_API_URL=$PREFECT_API_URL
END
