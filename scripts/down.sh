#!/usr/bin/env bash
# Stop the stack, and end orphaned processes of a killed supervisor.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
elt="${UV_PROJECT_ENVIRONMENT:-.venv}/bin/elt"
if [[ ! -x $elt && -e ${ELT_STATE:-.state}/run/stack.json ]]; then
  echo "down: the environment is gone: run scripts/bootstrap.sh first" >&2
  exit 1
elif [[ ! -x $elt ]]; then
  echo "nothing runs: this clone was never bootstrapped"
  exit 0
fi
exec "$elt" down "$@"
