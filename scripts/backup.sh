#!/usr/bin/env bash
# Write all that the platform knows to one file: scripts/backup.sh [FILE].
set -euo pipefail
from=$PWD
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/bootstrap.sh --quiet
elt=$(realpath "${UV_PROJECT_ENVIRONMENT:-.venv}/bin/elt")
cd "$from" && exec "$elt" backup "$@"
