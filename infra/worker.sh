#!/usr/bin/env bash
# Serve one work pool from this machine, one flow run at a time, in the foreground: worker.sh [POOL].
# PREFECT_API_URL may name the server of another machine.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

export PREFECT_API_URL="${PREFECT_API_URL:-$local_prefect_api}"
exec "$bin/prefect" --no-prompt worker start --pool "${1:-local}" --type process --limit 1
