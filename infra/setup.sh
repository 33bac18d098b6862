#!/usr/bin/env bash
# Make .venv from requirements.lock and install this checkout into it: setup.sh [PYTHON].
# Nothing is resolved: every package is the one the lock names. Safe to repeat.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=.venv/bin/python
pip=("$python" -m pip --disable-pip-version-check --no-input --quiet)
if ! "$python" -m pip --version >/dev/null 2>&1; then
    "$(infra/find-python.sh "$@")" -m venv --clear .venv
fi
echo "Installing the locked packages into .venv (about 2 GB; minutes on a fresh machine)"
"${pip[@]}" install --no-deps -r requirements.lock
"${pip[@]}" install --no-deps --no-build-isolation --editable .

if ! "$python" -c 'import torch' 2>/dev/null; then
    echo "torch does not import: a GPU build without its libraries. Installing those it asks for"
    "${pip[@]}" install --constraint requirements.lock "$(grep '^torch==' requirements.lock)"
    "$python" -c 'import torch'
fi

echo "Preparing the embedded model and checking this machine (about a minute, once per user)"
.venv/bin/neuromod doctor
