#!/bin/sh
# Changes and searches of one index at the same time, under the thread sanitizer: any report fails. 20 s and a build.
set -eu
cd "$(dirname "$0")/../.."
folder=build/threads
sh tests/csrc/build_kernel.sh "$folder" threads -O1 -g -fsanitize=thread
export TSAN_OPTIONS="halt_on_error=1 second_deadlock_stack=1"
# Without -R some kernels put memory where GCC's runtime does not expect any.
setarch "$(uname -m)" -R "$folder/threads" "${1:-20}" "$folder/index"
