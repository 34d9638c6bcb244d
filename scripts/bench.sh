#!/usr/bin/env bash
# Measure this beside its peers, and write docs/benchmarks.md: scripts/bench.sh singer|sql|start|schedule|pipeline|growth|load [--help]
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in
singer | sql | start | schedule | pipeline | growth | load) ;;
-h | --help)
  sed -n '2s/^# //p' "${BASH_SOURCE[0]}"
  exit 0
  ;;
*)
  echo "bench.sh: no benchmark '${1:-}'; there are singer, sql, start, schedule, pipeline, growth and load" >&2
  exit 2
  ;;
esac
scripts/bootstrap.sh --quiet
PYTHONPATH=tests exec "${UV_PROJECT_ENVIRONMENT:-.venv}/bin/python" -m "bench.$1" "${@:2}"
