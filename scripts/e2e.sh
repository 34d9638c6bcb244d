#!/usr/bin/env bash
# Prove the platform: bootstrap, seed, start, run the pipeline, check, stop.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/bootstrap.sh --start
exec "${UV_PROJECT_ENVIRONMENT:-.venv}/bin/elt" e2e "$@"
