#!/usr/bin/env bash
# The tests of the machine code with its memory and its arithmetic watched: bash tools/sanitize.sh
# Needs GCC with its sanitizers, and the .venv of tools/test.sh; what is compiled here is taken
# back at the end.
cd "$(dirname "$0")/.."
source tools/venv.sh
make_venv dev
python=$PWD/.venv/bin/python
modules=(formats/_native codec/cpu/_interpolation codec/cpu/_rate codec/cpu/_synthesis)
kept=$(mktemp -d)
restore() {
  for module in "${modules[@]}"; do
    rm -f "$module.abi3.so"
    if [[ -f $kept/${module##*/}.abi3.so ]]; then
      cp "$kept/${module##*/}.abi3.so" "$module.abi3.so"
    fi
  done
  rm -rf "$kept"
}
trap restore EXIT
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
for module in "${modules[@]}"; do
  if [[ -f $module.abi3.so ]]; then cp "$module.abi3.so" "$kept/"; fi
  gcc -O1 -g -std=gnu11 -Wall -Wextra -Werror -fsanitize=address,undefined \
    -fno-sanitize-recover=undefined -fno-omit-frame-pointer -shared -fPIC "-I$include" \
    "$module.c" -o "$module.abi3.so"
done
# Python's own allocator hides small overruns; libraries that never free are none of our business.
export PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 OMP_NUM_THREADS=1
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
  "$python" -m pytest -s -p no:cacheprovider tests/formats/test_native.py tests/formats/test_latents.py \
  tests/conformance/test_golden_core.py tests/cpu "$@"
