# Sourced by demo.sh and test.sh: makes .venv with the pinned packages, once per change of pins or of
# what is compiled.
# Needs only python3 (3.11 or later) with its venv module.
set -euo pipefail

find_python() {
  local name
  for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  echo "Python 3.11 or later is needed (set PYTHON=/path/to/python3)" >&2
  exit 1
}

make_venv() {
  local extras=$1 stamp
  stamp="$extras $(cat pyproject.toml setup.py constraints.txt formats/*.[ch] codec/cpu/*.[ch] | cksum)"
  if [[ -f .venv/.stamp && "$(cat .venv/.stamp)" == *"$stamp"* ]]; then
    return
  fi
  echo "installing into .venv (PyTorch is large: a few minutes on a slow line)" >&2
  [[ -x .venv/bin/python ]] || "$(find_python)" -m venv .venv ||
    { echo "python3 -m venv failed; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    -c constraints.txt -e ".[$extras]"
  echo "$stamp" >> .venv/.stamp
}
