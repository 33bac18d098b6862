#!/usr/bin/env bash
# Print the path of the newest report under runs/.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

newest=""
for report in "$state"/*/report.html; do
    if [[ -f "$report" && (-z "$newest" || "$report" -nt "$newest") ]]; then newest="$report"; fi
done
[[ -n "$newest" ]] || { echo "No report under $state yet: make reproduce writes one." >&2 && exit 2; }
echo "$newest"
