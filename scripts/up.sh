#!/usr/bin/env bash
# Start the stack and wait until it is healthy.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/bootstrap.sh --quiet --start
exec "${UV_PROJECT_ENVIRONMENT:-.venv}/bin/elt" up "$@"
