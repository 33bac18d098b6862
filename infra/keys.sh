#!/usr/bin/env bash
# Print the export lines with which a shell reaches the S3 server of this machine: eval "$(infra/keys.sh)".
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

unset AWS_ENDPOINT_URL
use_local_s3
[[ -n "${AWS_ENDPOINT_URL:-}" ]] || { echo "No S3 server was started here: make up starts one" >&2 && exit 2; }
for name in AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION; do
    echo "export $name=${!name}"
done
