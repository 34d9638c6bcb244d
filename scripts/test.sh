#!/usr/bin/env bash
# Run the tests: scripts/test.sh [unit|connectors|integration|e2e|faults|strangers|debian|upgrade|PACKAGE|PACKAGE/test_MODULE] [pytest's arguments]; without a part, the first four.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in
connectors) parts=(meltano/connectors) && shift ;;
unit | integration | e2e) parts=("tests/$1") && shift ;;
faults) parts=(tests/e2e/test_faults.py) && export ELT_FAULTS=all && shift ;;
strangers) parts=(tests/e2e/test_strangers.py) && export ELT_FAULTS=all && shift ;;
debian) parts=(tests/e2e/test_debian.py) && shift ;;
upgrade) parts=(tests/e2e/test_upgrade.py) && export ELT_UPGRADE=1 && shift ;;
-h | --help)
  sed -n '2s/^# //p' "${BASH_SOURCE[0]}"
  exit 0
  ;;
"" | -*) parts=(tests/unit meltano/connectors tests/integration tests/e2e) ;;
*) # a package of elt, a module of it, or another file of tests
  shopt -s nullglob
  parts=(tests/{unit,integration,e2e}/"$1"*)
  if [[ ${#parts[@]} -eq 0 ]]; then
    echo "test.sh: no part '$1'; there are unit, connectors, integration, e2e, faults, strangers, debian, upgrade and the packages of elt (tests/README.md)" >&2
    exit 2
  fi
  shift
  ;;
esac
scripts/bootstrap.sh --quiet
[[ -z ${ELT_LIBRARY_PATH:-} ]] || export LD_LIBRARY_PATH="$ELT_LIBRARY_PATH" # elt/layout.py says what it is
# Two at a time: those of e2e, which often wait, and meanwhile all others.
exec env -u PYTHONDONTWRITEBYTECODE "${UV_PROJECT_ENVIRONMENT:-.venv}/bin/pytest" -n 2 "${parts[@]}" "$@"
