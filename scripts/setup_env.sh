#!/usr/bin/env bash
# Create the virtual environment and install lcframework into it: setup_env.sh VENV base|dev
set -euo pipefail
venv=$1 kind=$2
python=${PYTHON:-python3}
start=$(date +%s)

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "lcframework needs Python 3.11 or newer; $python is $("$python" --version 2>&1). Try: make PYTHON=python3.12 ..." >&2
  exit 1
}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@" ${PIP_ARGS:-}; }
torch=$(sed -n 's/^torch==//p' constraints.txt)

if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
  if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; then
    echo "torch $torch: the CUDA build, because nvidia-smi lists $(nvidia-smi -L | wc -l) GPU(s)."
    pip install -q "torch==$torch"
  elif pip install -q "torch==$torch+cpu" 2>/dev/null; then
    echo "torch $torch: the CPU build, because no NVIDIA GPU was found."
  else
    echo "torch $torch: your package index holds no CPU-only build, so the default one is taken (on Linux several GB; it"
    echo "runs on the CPU too). For the small build pass PyTorch's CPU wheel address: make setup PIP_ARGS='--extra-index-url ...'"
    pip install -q "torch==$torch"
  fi
fi
case $kind in
  base) pip install -q -c constraints.txt -e . ;;
  dev) pip install -q -c constraints.txt -e ".[dev]"; touch "$venv/.base" ;;
  *) echo "unknown kind $kind" >&2; exit 2 ;;
esac
touch "$venv/.$kind"
echo "installed ($kind) in $(($(date +%s) - start)) s; $venv takes $(du -sh "$venv" | cut -f1)."
