#!/usr/bin/env bash
# Put a backup into a clone that has no data yet: scripts/restore.sh FILE.
set -euo pipefail
from=$PWD
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/bootstrap.sh --quiet
elt=$(realpath "${UV_PROJECT_ENVIRONMENT:-.venv}/bin/elt")
cd "$from" && exec "$elt" restore "$@"
