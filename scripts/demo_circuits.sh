#!/usr/bin/env bash
# What threshold circuits simulate real models, what follows, and one attention step run as a circuit.
# Usage: scripts/demo_circuits.sh VENV_BIN
set -euo pipefail
bin=$1
out=runs/circuits-demo
configs=tests/fixtures/model_configs
mkdir -p "$out"

step() { printf '\n== %s\n' "$*"; }

step "Llama-3.1-8B in bfloat16: layers of threshold gates, component by component"
"$bin/lcf" circuits --model $configs/llama-3.1-8b --length 4096 --precision bf16 --cost explicit

step "Can it evaluate Boolean formulas?"
"$bin/lcf" circuits verdict --task bfvp --model $configs/llama-3.1-8b

step "Can LC-PLM compose permutations?"
"$bin/lcf" circuits verdict --task s5 --model conf/model/lcplm_1b4.yaml

step "An attention step as a circuit against exact float arithmetic"
"$bin/lcf" circuits simulate --bits 2 --n 3 --dim 2 --samples 2000

step "Tables and pictures in $out"
for model in $configs/llama-3.1-8b $configs/qwen3-8b $configs/esm2_t33_650M_UR50D conf/model/lcplm_1b4.yaml; do
  name=$(basename "$model" .yaml)
  "$bin/lcf" circuits --model "$model" --length 4096 --precision bf16 --cost explicit --json > "$out/$name.json"
  "$bin/lcf" circuits --model "$model" --length 4096 --precision bf16 --latex > "$out/$name.tex"
done
"$bin/lcf" circuits draw add --bits 3 -o "$out/add.png"
"$bin/lcf" circuits draw float-add --bits 3 -o "$out/float-add.png"
"$bin/lcf" circuits grow -o "$out"
ls "$out"
