#!/usr/bin/env bash
# Serve one work pool from this machine, one flow run at a time, in the foreground: worker.sh [POOL] [GPU].
# With a GPU its runs see that device alone, and the pool is `gpu` unless another is named. PREFECT_API_URL may name the
# server of another machine. Runs that an earlier worker left behind when it was killed are cancelled first.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

gpu="${2:-}"
pool="${1:-local}"
export PREFECT_API_URL="${PREFECT_API_URL:-$local_prefect_api}"
use_local_s3
if [[ -n "$gpu" ]]; then export CUDA_VISIBLE_DEVICES="$gpu"; fi

"$bin/python" -m tasks.stale
exec "$bin/prefect" --no-prompt worker start --pool "$pool" --type process --limit 1 \
    --name "$(uname -n)-$pool${gpu:+-gpu$gpu}-$$"
