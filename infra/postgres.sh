#!/usr/bin/env bash
# The PostgreSQL server of this machine, for Prefect and MLflow: postgres.sh start | stop | url DRIVER DATABASE.
# Needs PostgreSQL 14 or later (Debian: apt-get install postgresql). Its files are under runs/.postgres.
source "$(dirname "${BASH_SOURCE[0]}")/service.sh"

folder="$state/.postgres"
programs="$(dirname "$(ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null | sort -V | tail -n 1)")"
[[ -x "$programs/postgres" ]] || programs="$(dirname "$(command -v postgres || echo none/none)")"
as_owner=() # PostgreSQL refuses to run as root: then its own user runs it
if [[ "$EUID" -eq 0 ]]; then as_owner=(setpriv --reuid=postgres --regid=postgres --clear-groups --); fi

fail() { echo "$1" >&2 && exit 2; }

prepare() {
    [[ -x "$programs/initdb" ]] || fail "No PostgreSQL here: install it (Debian: apt-get install postgresql), or use make up"
    [[ ! -f "$folder/data/PG_VERSION" ]] || return 0
    mkdir -p "$folder"
    chmod 700 "$folder"
    if [[ "$EUID" -eq 0 ]]; then chown postgres "$folder"; fi
    "${as_owner[@]}" test -w "$folder" || fail "The user postgres cannot write to $folder: set NEUROMOD_STATE to a folder it can"
    secret POSTGRES_PASSWORD | "${as_owner[@]}" tee "$folder/password" >/dev/null
    "${as_owner[@]}" "$programs/initdb" -D "$folder/data" -U neuromod --auth=scram-sha-256 --encoding=UTF8 --locale=C \
        --pwfile="$folder/password" >"$services/initdb.log"
    rm "$folder/password"
}

forget_the_dead() { # a killed server that nobody reaped still has its number, and PostgreSQL takes it for a running one
    local file="$folder/data/postmaster.pid"
    if "${as_owner[@]}" test -f "$file" && grep -qs '^State:.Z' "/proc/$(head -n 1 "$file")/status"; then rm "$file"; fi
}

ask() { # ask SQL
    PGPASSWORD="$(secret POSTGRES_PASSWORD)" "$programs/psql" -qtA -h 127.0.0.1 -p "$POSTGRES_PORT" -U neuromod postgres -c "$1"
}

case "${1:-}" in
    start)
        mkdir -p "$services"
        prepare
        forget_the_dead
        start postgres "$POSTGRES_PORT" - "${as_owner[@]}" \
            "$programs/postgres" -D "$folder/data" -p "$POSTGRES_PORT" -h 127.0.0.1 -k ""
        for _ in {1..600}; do # after a crash it listens before it answers
            if "$programs/pg_isready" -q -h 127.0.0.1 -p "$POSTGRES_PORT"; then break; fi
            sleep 0.2
        done
        for database in prefect mlflow; do
            [[ "$(ask "SELECT 1 FROM pg_database WHERE datname = '$database'")" == 1 ]] || ask "CREATE DATABASE $database"
        done
        ;;
    stop) stop postgres ;;
    url) echo "postgresql+$2://neuromod:$(secret POSTGRES_PASSWORD)@127.0.0.1:$(cat "$services/postgres.port")/$3" ;;
    *) fail "usage: infra/postgres.sh start|stop|url DRIVER DATABASE" ;;
esac
