#!/usr/bin/env bash
# Encode, decode and compare a photo and a clip: bash tools/demo.sh [IMAGE_OR_VIDEO]
# Makes .venv on the first run and leaves everything it produced in demo/.
caller=$PWD
cd "$(dirname "$0")/.."
source tools/venv.sh
make_venv plots,metrics
exec .venv/bin/python tools/demo.py --relative-to "$caller" "$@"
