# Settings of the scripts in this folder: where state lives, which ports serve, no telemetry. Sourced, never run.
# NEUROMOD_STATE, PREFECT_PORT and MLFLOW_PORT may be set beforehand.
set -euo pipefail

NEUROMOD_HOME="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$NEUROMOD_HOME"
bin="$NEUROMOD_HOME/.venv/bin"
state="${NEUROMOD_STATE:-$NEUROMOD_HOME/runs}"
mkdir -p "$state"

export NEUROMOD_HOME
export PREFECT_HOME="$state/.prefect"
export PREFECT_PORT="${PREFECT_PORT:-4200}" MLFLOW_PORT="${MLFLOW_PORT:-5000}"
export DO_NOT_TRACK=1
export MLFLOW_DISABLE_TELEMETRY=true
export PREFECT_SERVER_ANALYTICS_ENABLED=false
export PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT=false
export PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY=false
export NO_PROXY="127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}" # a proxy must not stand between us and our own services

local_prefect_api="http://127.0.0.1:$PREFECT_PORT/api"
