#!/usr/bin/env bash
# docker compose with our file and our secrets: compose.sh up --wait, compose.sh logs -f worker, compose.sh down.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

for name in S3_ACCESS_KEY S3_SECRET_KEY POSTGRES_PASSWORD; do
    export "$name=$(secret "$name")"
done
mkdir -p "$state/registrations"
exec docker compose --file infra/compose.yaml "$@"
