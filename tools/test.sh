#!/usr/bin/env bash
# Lint, types and tests in a virtual environment of their own: bash tools/test.sh [pytest options]
cd "$(dirname "$0")/.."
source tools/venv.sh
make_venv dev
bin=.venv/bin
$bin/ruff format --check .
$bin/ruff check .
$bin/mypy
# One process a core, one thread each; counted first, because nproc answers OMP_NUM_THREADS.
cores=$(env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 2)
export OMP_NUM_THREADS=1
$bin/python -m pytest -n "$cores" --dist worksteal --cov=formats --cov-branch \
  --cov-report=term --cov-fail-under=90 "$@"
