#!/usr/bin/env bash
# Run the tests: scripts/test.sh [unit|integration|e2e|faults|debian] [pytest's arguments]; without a part, the first three.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in
unit) parts=(tests/unit meltano/connectors) && shift ;;
integration | e2e) parts=("tests/$1") && shift ;;
faults) parts=(tests/e2e/test_faults.py) && export ELT_FAULTS=all && shift ;;
debian) parts=(tests/e2e/test_debian.py) && shift ;;
-h | --help)
  sed -n '2s/^# //p' "${BASH_SOURCE[0]}"
  exit 0
  ;;
"" | -*) parts=(tests/unit meltano/connectors tests/integration tests/e2e) ;;
*)
  echo "test.sh: no part '$1'; there are unit, integration, e2e, faults and debian" >&2
  exit 2
  ;;
esac
scripts/bootstrap.sh --quiet
[[ -z ${ELT_LIBRARY_PATH:-} ]] || export LD_LIBRARY_PATH="$ELT_LIBRARY_PATH" # elt/layout.py says what it is
# Two at a time: those of e2e, which often wait, and meanwhile all others.
exec env -u PYTHONDONTWRITEBYTECODE "${UV_PROJECT_ENVIRONMENT:-.venv}/bin/pytest" -n 2 "${parts[@]}" "$@"
