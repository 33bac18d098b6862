#!/usr/bin/env bash
# What a container runs: the command it is given. For a worker, the runs of its predecessor are cancelled first.
set -euo pipefail
cd "${NEUROMOD_HOME:-/opt/neuromod}"

if [[ "${1:-}" == worker ]]; then
    python -m tasks.stale
    exec prefect --no-prompt worker start --type process --limit 1 "${@:2}"
fi
exec "$@"
