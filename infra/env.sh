# Settings of the scripts in this folder: where state lives, which ports serve, no telemetry. Sourced, never run.
# NEUROMOD_STATE and the ports PREFECT_PORT, MLFLOW_PORT, S3_PORT and POSTGRES_PORT may be set beforehand.
set -euo pipefail

NEUROMOD_HOME="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$NEUROMOD_HOME"
bin="$NEUROMOD_HOME/.venv/bin"
state="${NEUROMOD_STATE:-$NEUROMOD_HOME/runs}"
mkdir -p "$state"

export NEUROMOD_HOME
export PREFECT_HOME="$state/.prefect"
export PREFECT_PORT="${PREFECT_PORT:-4200}" MLFLOW_PORT="${MLFLOW_PORT:-5000}"
export S3_PORT="${S3_PORT:-8333}" POSTGRES_PORT="${POSTGRES_PORT:-5433}"
export DO_NOT_TRACK=1
export MLFLOW_DISABLE_TELEMETRY=true
export PREFECT_SERVER_ANALYTICS_ENABLED=false
export PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT=false
export PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY=false
export NO_PROXY="127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}" # a proxy must not stand between us and our own services

local_prefect_api="http://${NEUROMOD_PREFECT_HOST:-127.0.0.1}:$PREFECT_PORT/api"
secrets="$state/.services/secrets.env" # access keys of our own services, drawn at their first start; this user's alone

secret() { # secret NAME: the value of a secret, drawn where there is none yet
    mkdir -p "$state/.services"
    (umask 077 && touch "$secrets")
    if ! grep -q "^$1=" "$secrets"; then
        echo "$1=$(od -An -N20 -tx1 /dev/urandom | tr -d ' \n')" >>"$secrets"
    fi
    sed -n "s/^$1=//p" "$secrets"
}

use_local_s3() { # point the AWS environment at the S3 server of this machine, where it was started and no other is named
    if [[ -z "${AWS_ENDPOINT_URL:-}" && -f "$state/.services/s3.port" ]]; then
        AWS_ENDPOINT_URL="http://127.0.0.1:$(cat "$state/.services/s3.port")"
        AWS_ACCESS_KEY_ID="$(secret S3_ACCESS_KEY)"
        AWS_SECRET_ACCESS_KEY="$(secret S3_SECRET_KEY)"
        AWS_DEFAULT_REGION=us-east-1
        export AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION
    fi
}
