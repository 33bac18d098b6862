#!/usr/bin/env bash
# Print the first Python of (the arguments, python3) that is 3.11 or later and can make virtual environments.
set -euo pipefail

for candidate in "$@" python3; do
    if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "$candidate"
        exit
    fi
done
echo "No Python >= 3.11 with the modules venv and ensurepip among: $* python3. Name one with PYTHON=/path/to/python." >&2
exit 2
