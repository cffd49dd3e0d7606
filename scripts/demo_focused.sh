#!/usr/bin/env bash
# Focused Learning beside plain fine-tuning, on a small model that is distracted by many documents: on the CPU in minutes.
# Usage: scripts/demo_focused.sh VENV_BIN
set -euo pipefail
bin=$1
out=runs/focused-demo
mkdir -p "$out"
export OMP_NUM_THREADS=1 LCF_STORES=$out/stores

step() { printf '\n== %s\n' "$*"; }

step "A small world, and a base model that has learnt to read one to three documents"
"$bin/python" scripts/demo_focused.py "$out"

# The focused view holds one of ten documents: a step costs 1.7 of plain fine-tuning, with the first
# pass that caches gradients.
step "Fine-tuned with ten documents, three seeds: plain at equal steps and at equal compute, and Focused Learning"
"$bin/python" benchmarks/focused_table.py \
  --questions "$out/questions.jsonl" --passages "$out/passages.jsonl" --model "$PWD/$out/base" \
  --variants vanilla full vanilla_equal_compute --seeds 3 --steps 120 --equal-compute 1.7 --lr 3e-3 --written 1000 \
  --workers 2 --threads 1 --to "$out/runs" --out "$out/tables" -- \
  'data.split_sizes=[260,40,100]' 'data.train_documents=[10]' 'data.test_documents=[10,20]' data.distractors.kind=random \
  data.retrieval.top_k=1 data.prompt="$PWD/$out/prompt.jinja" data.chat=false task.view=removal \
  task.template=never task.pass_tokens=4096 task.test_tokens=16384 > "$out/log.txt"
grep -E "^worker|complete|FAILED" "$out/log.txt"

step "Right answers, percent (1 document: the gold passage alone)"
sed -n '/^## score/,/^## answer loss/p' "$out/tables/table.md" | grep '^|'
step "What the right answer costs, nats per token: it needs no written answer and resolves more"
sed -n '/^## answer loss/,/^## distraction gap, points/p' "$out/tables/table.md" | grep '^|'
cat <<WORDS

A difference counts where its 95% interval (over questions) leaves out 0: for the score above 0 is better, for the loss below.
Ten documents are what was trained, twenty are more. All tables, distraction gaps and heat maps: $out/tables
WORDS
