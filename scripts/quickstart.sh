#!/usr/bin/env bash
# Train LC-PLM and an ESM-2-style transformer on equal tokens of the embedded sample, then compare them: quickstart.sh BIN
set -euo pipefail
bin=$1
id=$(date +%Y-%m-%d_%H-%M-%S)
"$bin/python" -m lcframework.train -m experiment=lcplm/quickstart model=lcplm_tiny,esm2_tiny run_id="$id"
"$bin/lcf" report "runs/lcplm-quickstart_sweep/$id"
