#!/bin/sh
# Changes and searches one index at the same time, under the thread sanitizer. Any report fails. Takes 20 s and a build.
set -eu
cd "$(dirname "$0")/../.."
folder=build/threads
sh tests/csrc/build_kernel.sh "$folder" threads -O1 -g -fsanitize=thread
export TSAN_OPTIONS="halt_on_error=1 second_deadlock_stack=1"
# Without -R some Linux kernels place memory where GCC's runtime does not expect it.
setarch "$(uname -m)" -R "$folder/threads" "${1:-20}" "$folder/index"
