#!/bin/sh
# Runs the kernel's tests under the address and undefined-behaviour sanitizers, in a build of their own: build/sanitize.
# Fails if a test fails or is skipped, or if another build of sdk._core was tested (see conftest.py).
# PYTHON: an interpreter that has numpy, OpenCV, pybind11, pytest and hypothesis. CXX: a GCC.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
cxx=${CXX:-g++}
build=$root/build/sanitize
mkdir -p "$build"

cmake -S "$root" -B "$build/cmake" -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_BUILD_TYPE=Release -DVPR_WERROR=ON \
    -DVPR_SANITIZE=address,undefined -DPython_EXECUTABLE="$("$python" -c 'import sys; print(sys.executable)')" \
    -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" >"$build/build.log"
cmake --build "$build/cmake" --parallel 2 >>"$build/build.log"

rm -rf "$build/site"
mkdir -p "$build/site"
cp -R "$root/sdk" "$build/site/"
cmake --install "$build/cmake" --prefix "$build/site" >>"$build/build.log"

# First the loops alone. This is only C++, so leaks are found as well.
CXX=$cxx sh "$root/tests/csrc/build_kernel.sh" "$build/loops" kernels_agree -O2 -g -fsanitize=address,undefined \
    -fno-sanitize-recover=all
UBSAN_OPTIONS=print_stacktrace=1 "$build/loops/kernels_agree"

# -S and an explicit path: an editable install hooks `import sdk` from site-packages, and would win over our copy.
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cd "$build/site" # `python -m` puts the working folder first

# The interpreter is not sanitized, so the runtime must be loaded first; libstdc++ too, or exceptions are missed.
LD_PRELOAD="$("$cxx" -print-file-name=libasan.so) $("$cxx" -print-file-name=libstdc++.so)"
export LD_PRELOAD
# No leak check: CPython and other modules keep memory until the process ends, which would count as leaks.
export ASAN_OPTIONS=detect_leaks=0
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export PYTHONMALLOC=malloc # bytes and small arrays get guarded ends as well
export PYTHONPATH="$packages"
export STRUCTVPR_EXPECT_CORE="$build/site/sdk"
# --capture=sys: a sanitizer writes its report to the file descriptor and ends the process.
"$python" -S -m pytest -q -p no:cacheprovider --capture=sys -c "$root/pyproject.toml" --rootdir "$root" "$root/tests/csrc" "$@"
