#!/usr/bin/env bash
# Build what the GPU benchmarks compare with, without an installed CUDA toolkit: mamba-ssm's scan and causal-conv1d, for bfloat16
# inputs and float32 weights, from their source packages and the compiler in NVIDIA's wheels. About three minutes on two cores.
#
#   bash benchmarks/build_peers.sh OUT [PYTHON] [ARCH]    then: PYTHONPATH=OUT python benchmarks/lcplm_training.py
#
# PYTHON needs a CUDA build of torch; the modules run with that version of Python and torch only. ARCH is 90 for an H100 or H200.
set -euo pipefail
out=$(mkdir -p "$1" && cd "$1" && pwd)
python=${2:-python3}
arch=${3:-90}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cuda=$("$python" -c 'import torch; print(torch.version.cuda or "")')
[ -n "$cuda" ] || { echo "$python has a CPU build of torch; a CUDA build is needed to compile against." >&2; exit 1; }
pip() { "$python" -m pip download -q --no-deps "$@"; }
for package in nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-runtime nvidia-cuda-cccl; do
    pip "$package==$cuda.*"
done
export MAMBA_SKIP_CUDA_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE CAUSAL_CONV1D_SKIP_CUDA_BUILD=TRUE CAUSAL_CONV1D_FORCE_BUILD=TRUE
pip --no-binary :all: --no-build-isolation mamba-ssm==2.3.2.post1 causal-conv1d==1.7.0
for wheel in *.whl; do "$python" -m zipfile -e "$wheel" cuda; done
for archive in *.tar.gz; do tar xzf "$archive"; done
toolkit=$(dirname "$(dirname "$(find cuda -name nvcc -type f)")")
chmod -R +x "$toolkit"/bin "$toolkit"/nvvm/bin

site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
include="-I$toolkit/include -I$toolkit/include/cccl -I$site/torch/include -I$site/torch/include/torch/csrc/api/include"
include+=" -I$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')"
for folder in "$site"/nvidia/*/include; do include+=" -I$folder"; done
common="-std=c++17 -D_GLIBCXX_USE_CXX11_ABI=1 -DTORCH_API_INCLUDE_EXTENSION_H $include"
nvcc="$toolkit/bin/nvcc -O3 -gencode arch=compute_$arch,code=sm_$arch --use_fast_math --expt-relaxed-constexpr --expt-extended-lambda
 -U__CUDA_NO_HALF_OPERATORS__ -U__CUDA_NO_HALF_CONVERSIONS__ -U__CUDA_NO_BFLOAT16_OPERATORS__ -U__CUDA_NO_BFLOAT16_CONVERSIONS__
 -U__CUDA_NO_BFLOAT162_OPERATORS__ -U__CUDA_NO_BFLOAT162_CONVERSIONS__ -Xcompiler -fPIC $common"
libraries="-L$site/torch/lib -lc10 -lc10_cuda -ltorch -ltorch_cpu -ltorch_cuda -ltorch_python -L$toolkit/lib -l:libcudart.so.${cuda%%.*}"

scan=$(echo mamba_ssm-*/csrc/selective_scan)
conv=$(echo causal_conv1d-*/csrc)
# Other precisions would take ten times as long: every branch of the dispatch becomes the one that is built.
sed -i '/complex_t>(SSMParamsBase/d' "$scan"/selective_scan_fwd_bf16.cu
sed -i 's/using input_t = .*;/using input_t = at::BFloat16;/; s/using weight_t = .*;/using weight_t = float;/' \
    "$scan"/selective_scan.cpp "$conv"/causal_conv1d.cpp
sed -i '/^template void causal_conv1d/{/<at::BFloat16, float>/!d}' "$conv"/*.cu

$nvcc -c "$scan"/selective_scan_bwd_bf16_real.cu -o scan_bwd.o &
first=$!
$nvcc -c "$scan"/selective_scan_fwd_bf16.cu -o scan_fwd.o
$nvcc -c "$conv"/causal_conv1d_fwd.cu -o conv_fwd.o
wait $first
$nvcc -c "$conv"/causal_conv1d_bwd.cu -o conv_bwd.o &
first=$!
$nvcc -c "$conv"/causal_conv1d_update.cu -o conv_update.o
g++ -O2 -fPIC $common -DTORCH_EXTENSION_NAME=selective_scan_cuda -c "$scan"/selective_scan.cpp -o scan.o
g++ -O2 -fPIC $common -DTORCH_EXTENSION_NAME=causal_conv1d_cuda -c "$conv"/causal_conv1d.cpp -o conv.o
wait $first
g++ -shared scan.o scan_fwd.o scan_bwd.o -o "$out"/selective_scan_cuda.so $libraries
g++ -shared conv.o conv_fwd.o conv_bwd.o conv_update.o -o "$out"/causal_conv1d_cuda.so $libraries

# The Python that the fast path needs, without what the packages' own __init__ would import beside it.
cp -r causal_conv1d-*/causal_conv1d "$out"/
for file in modules/mamba_simple.py ops/selective_scan_interface.py ops/triton/layer_norm.py utils/torch.py utils/determinism.py; do
    mkdir -p "$out/mamba_ssm/$(dirname "$file")"
    cp mamba_ssm-*/mamba_ssm/"$file" "$out/mamba_ssm/$file"
done
for folder in . modules ops ops/triton utils; do touch "$out/mamba_ssm/$folder/__init__.py"; done
echo "Built into $out."
