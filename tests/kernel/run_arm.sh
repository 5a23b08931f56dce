#!/bin/sh
# The kernel on aarch64, under emulation: it must compile without a warning, give the same bits as on this machine,
# and write the same file. Needs g++-aarch64-linux-gnu and qemu-user.
set -eu
cd "$(dirname "$0")/../.."
for tool in aarch64-linux-gnu-g++ qemu-aarch64; do
    command -v "$tool" >/dev/null || {
        echo "$tool is missing: sudo apt install g++-aarch64-linux-gnu qemu-user" >&2
        exit 1
    }
done
folder=build/arm
mkdir -p "$folder"
build() {
    "$1" -static -std=c++17 -O3 -ffp-contract=off -Wall -Wextra -Wconversion -Wshadow -Werror \
        -DNO_MANUAL_VECTORIZATION -Icsrc -isystem csrc/third_party tests/kernel/same_bits.cpp \
        $(ls csrc/*.cpp | grep -v bindings) -pthread -o "$2"
}
build g++ "$folder/here"
build aarch64-linux-gnu-g++ "$folder/arm"
"$folder/here" "$folder/here.index" >"$folder/here.txt"
qemu-aarch64 "$folder/arm" "$folder/arm.index" >"$folder/arm.txt"
cat "$folder/arm.txt"
diff "$folder/here.txt" "$folder/arm.txt"
cmp "$folder/here.index" "$folder/arm.index"
echo "aarch64 and $(uname -m): 4 digests and the index file are the same"
