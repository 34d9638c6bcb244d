#!/usr/bin/env bash
# Stop the stack, and whatever a killed supervisor left behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
elt="${UV_PROJECT_ENVIRONMENT:-.venv}/bin/elt"
if [[ ! -x $elt ]]; then
  echo "nothing runs: this clone was never bootstrapped"
  exit 0
fi
exec "$elt" down "$@"
