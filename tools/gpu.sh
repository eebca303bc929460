#!/usr/bin/env bash
# All that is to be measured on a CUDA GPU, in one command: bash tools/gpu.sh KODAK OUT [PUBLISHED.json]
#
# KODAK holds kodim01.png ... kodim24.png. Reports, tables and encodes go to OUT; the encodes of the 24
# images (10,000 steps, 4 lambdas) are the longest part and come last, lambda by lambda, eight at once,
# finished on the machine's other cores: given again, the command measures the rest anew and goes on
# with them. PUBLISHED.json has curves of others, the mean over Kodak of VTM among them. PYTHON:
# interpreter with torch, numpy, constriction, pillow and imageio-ffmpeg [python].
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0"
  exit 2
fi
kodak=$(realpath "$1")
published=${3:+$(realpath "$3")}
for file in "$kodak/kodim24.png" ${published:+"$published"}; do
  if [ ! -f "$file" ]; then
    echo "gpu.sh: no file $file" >&2
    exit 2
  fi
done
cores=$(env -u OMP_NUM_THREADS nproc)  # all of them: nproc obeys that variable
mkdir -p "$2"
out=$(realpath "$2")
python=$(realpath -s "$(command -v "${PYTHON:-python}")")
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD"
images=$(seq -s, 1 24)
failed=0

if "$python" -c "import pytest, triton" 2>/dev/null; then
  "$python" -m pytest -q tests/gpu || failed=1
fi
"$python" tools/gpu_check.py -o "$out/gpu_check.json" || failed=1
"$python" tools/bench_core.py --device cuda --pixels 0.1,0.4,2,8 -o "$out/bench_core.json" \
  | tee "$out/bench_core.md" || failed=1
"$python" tools/rd_table.py run "$kodak" --device cuda --steps 10000 --items "$images" --no-anchors \
  --jobs 2 --fits 4 --finish "$(( cores > 4 ? cores - 3 : 1 ))" -o "$out/rd" || failed=1
"$python" tools/rd_table.py report -o "$out/rd" \
  ${published:+--published "$published" --against "VTM H.266 (CompressAI)"} | tee "$out/rd.md"
exit $failed
