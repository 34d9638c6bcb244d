#!/usr/bin/env bash
# Write the extracts that the pipeline loads.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/bootstrap.sh --quiet
exec "${UV_PROJECT_ENVIRONMENT:-.venv}/bin/elt" seed "$@"
