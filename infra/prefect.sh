#!/usr/bin/env bash
# The Prefect server of this machine: prefect.sh start | stop. Its database is under runs/.prefect, or in PostgreSQL where
# infra/postgres.sh serves it.
source "$(dirname "${BASH_SOURCE[0]}")/service.sh"

case "${1:-}" in
    start)
        # without this address the UI of any port but 4200 is an empty page
        export PREFECT_SERVER_UI_API_URL="$local_prefect_api"
        if pid_of postgres >/dev/null; then
            PREFECT_API_DATABASE_CONNECTION_URL="$(infra/postgres.sh url asyncpg prefect)"
            export PREFECT_API_DATABASE_CONNECTION_URL
        fi
        start prefect "$PREFECT_PORT" /api/health "$bin/prefect" server start --host 127.0.0.1 --port "$PREFECT_PORT"
        ;;
    stop) stop prefect ;;
    *) echo "usage: infra/prefect.sh start|stop" >&2 && exit 2 ;;
esac
