#!/usr/bin/env bash
# Run a check of .pre-commit-config.yaml with a program of the locked environment: scripts/hook.sh PROGRAM [ARGUMENTS]
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin="${UV_PROJECT_ENVIRONMENT:-$PWD/.venv}/bin"
[[ -x $bin/python ]] || { echo "hook: no environment in ${bin%/bin}: run scripts/bootstrap.sh" >&2 && exit 1; }
work="${ELT_STATE:-$PWD/.state}/hooks"
mkdir -p "$work" && export TMPDIR="$work"             # uv leaves lock files there
[[ $1 == uv ]] || export XDG_CACHE_HOME="$work/cache" # sqlfmt keeps one; that of uv is the user's
case "$1" in
meltano-schema) # Meltano's own, of the locked package; an import would find the folder meltano/ instead
  find='from importlib.metadata import distribution as d; print(d("meltano").locate_file("meltano/schemas/meltano.schema.json"))'
  schema=$("$bin/python" -c "$find")
  shift && set -- check-jsonschema --schemafile "$schema" "$@"
  ;;
dbt-parse) # without servers, apart from the running stack, whatever the user set for other dbt projects
  unset "${!DBT_@}" "${!MELTANO_@}"
  export ELT_WAREHOUSES="$work" PYTHONPATH=elt/startup
  set -- dbt --quiet parse --no-write-json --project-dir transform --profiles-dir transform \
    --target-path "$work/dbt/target" --log-path "$work/dbt/logs"
  ;;
if-there)
  shift
  [[ -n $(PATH="$bin:$PATH" command -v "$1") ]] || { echo "skipped: $1 is not on PATH" && exit 0; }
  ;;
esac
# A Nix shell brings its own ruff and uv, and the libraries that wheels miss: elt/layout.py says more.
[[ -z ${ELT_LIBRARY_PATH:-} ]] || export LD_LIBRARY_PATH="$ELT_LIBRARY_PATH"
PATH="${ELT_PROGRAMS:+$ELT_PROGRAMS:}$bin:$PATH" exec "$@"
