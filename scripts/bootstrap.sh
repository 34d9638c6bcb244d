#!/usr/bin/env bash
# Prepare this clone: the locked environment, .env, git hooks, the supervisor. Idempotent; no root needed.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."

unset "${!PYTHON@}" # they are for programs of the user's own, and some keep Python from starting
umask go-w          # what is installed runs as this user, hence nobody else may change it
for python in python3 python3.11 python3.12 python3.13; do
  if "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
    exec "$python" -m elt.bootstrap "$@"
  fi
done
echo "bootstrap: Python 3.11, 3.12 or 3.13 is needed and none is on PATH ($(python3 --version 2>&1 || true)): install one" >&2
exit 1
