#!/usr/bin/env bash
# Run one study and let a failed gate pass: study.sh NAME [OVERRIDE...].
# Exit code 3 of neuromod means that the report is written and its last line says which gate failed; a null result or an
# invalid instrument is an outcome of the experiment, not an error of the command. Every other code is handed on.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

status=0
"$bin/neuromod" run "study=$1" "${@:2}" || status=$?
[[ "$status" -eq 3 ]] || exit "$status"
