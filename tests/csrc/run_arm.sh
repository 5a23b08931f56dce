#!/bin/sh
# Tests the kernel on emulated aarch64. It must compile without warnings. Every instruction set, there and here, must
# give the same bits and write the same files. Needs g++-aarch64-linux-gnu and qemu-user.
set -eu
cd "$(dirname "$0")/../.."
for tool in aarch64-linux-gnu-g++ qemu-aarch64; do
    command -v "$tool" >/dev/null || {
        echo "$tool is missing: sudo apt install g++-aarch64-linux-gnu qemu-user" >&2
        exit 1
    }
done
folder=build/arm
rm -rf "$folder"
CXX=g++ sh tests/csrc/build_kernel.sh "$folder/here" "kernels_agree same_bits" -static
CXX=aarch64-linux-gnu-g++ sh tests/csrc/build_kernel.sh "$folder/arm" "kernels_agree same_bits" -static
# A processor without the dot product, and one with everything that qemu knows.
old="qemu-aarch64 -cpu cortex-a57 $folder/arm"
new="qemu-aarch64 -cpu max $folder/arm"

"$folder/here/kernels_agree" >"$folder/agree.txt"
$old/kernels_agree >>"$folder/agree.txt"
$new/kernels_agree >>"$folder/agree.txt"
cat "$folder/agree.txt"
test "$(awk '{print $2}' "$folder/agree.txt" | sort -u | wc -l)" -eq 1
test "$($old/same_bits | tr '\n' ' ')" = "scalar neon "
test "$($new/same_bits | tr '\n' ' ')" = "scalar neon dotprod "

compare() { # NAME SET COMMAND...
    name=$1
    set=$2
    shift 2
    "$@" "$set" "$folder/$name" >"$folder/$name.txt"
    diff "$folder/golden.txt" "$folder/$name.txt"
    for golden in "$folder"/golden.float* "$folder"/golden.int8*; do
        cmp "$golden" "$folder/$name.${golden#"$folder"/golden.}"
    done
}
"$folder/here/same_bits" scalar "$folder/golden" >"$folder/golden.txt"
for set in $("$folder/here/same_bits"); do compare "here-$set" "$set" "$folder/here/same_bits"; done
compare old-neon neon $old/same_bits
compare new-scalar scalar $new/same_bits
compare new-dotprod dotprod $new/same_bits
cat "$folder/golden.txt"
echo "aarch64 and $(uname -m): $(wc -l <"$folder/golden.txt") digests and 6 index files are the same for every set"
