# Background services with a pid file, a log and a health check. Sourced, never run.
#   start NAME PORT PATH COMMAND...   returns once http://127.0.0.1:PORT/PATH answers 200 (or, where PATH is -, once the
#                                     port listens); fails after two minutes
#   stop NAME                         ends the service and its children; a service that is not running is no error
# Needs bash alone: no curl, no ps where /proc exists.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

services="$state/.services"

listens() { # listens PORT
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

answers() { # answers PORT PATH
    if [[ "$2" == - ]]; then listens "$1" && return || return 1; fi
    (
        exec 3<>"/dev/tcp/127.0.0.1/$1"
        printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1:%s\r\n\r\n' "$2" "$1" >&3
        IFS= read -r -t 5 status_line <&3
        [[ "$status_line" == *" 200 "* ]]
    ) 2>/dev/null
}

pid_of() { # pid_of NAME: the pid, if that process still is one of ours by its command line (a pid may have been reused)
    local pid words
    pid="$(cat "$services/$1.pid" 2>/dev/null)" || return 1
    words="$(2>/dev/null tr '\0' ' ' <"/proc/$pid/cmdline" || ps -o args= -p "$pid")"
    [[ "$words" == *"$bin/"* || "$words" == *"$state/"* ]] && echo "$pid"
}

start() {
    local name="$1" port="$2" path="$3" tries
    shift 3
    if pid_of "$name" >/dev/null; then
        echo "$name already runs on port $(cat "$services/$name.port")"
        [[ "$(cat "$services/$name.port")" == "$port" ]] && return
        echo "It cannot also run on port $port: stop it first with make down" >&2
        return 2
    fi
    if listens "$port"; then
        echo "$name cannot start: port $port is in use (choose another with PREFECT_PORT=, MLFLOW_PORT=, S3_PORT= or POSTGRES_PORT=)" >&2
        return 2
    fi
    mkdir -p "$services"
    set -m # a process group of its own, so that stop reaches the children
    "$@" </dev/null >"$services/$name.log" 2>&1 &
    set +m
    echo "$!" >"$services/$name.pid"
    echo "$port" >"$services/$name.port"
    for ((tries = 0; tries < 600; tries++)); do
        answers "$port" "$path" && return
        pid_of "$name" >/dev/null || break
        sleep 0.2
    done
    echo "$name did not answer on port $port; the end of $services/$name.log:" >&2
    tail -n 20 "$services/$name.log" >&2
    stop "$name"
    return 1
}

stop() {
    local name="$1" pid tries
    if pid="$(pid_of "$name")"; then
        kill -- "-$pid"
        for ((tries = 0; tries < 100; tries++)); do
            pid_of "$name" >/dev/null || break
            sleep 0.2
        done
        kill -KILL -- "-$pid" 2>/dev/null || true # what outlived its leader
    fi
    rm -f "$services/$name.pid" "$services/$name.port"
}
