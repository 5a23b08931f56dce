#!/bin/sh
# Compiles the kernel and programs of this folder without CMake, each file with its flags from CMakeLists.txt:
#     CXX=g++ build_kernel.sh FOLDER "PROGRAM ..." [FLAG ...]     PROGRAM.cpp -> FOLDER/PROGRAM
set -eu
folder=$1
programs=$2
shift 2
cxx=${CXX:-g++}
here=$(cd "$(dirname "$0")" && pwd)
sources=$here/../../csrc
mkdir -p "$folder"

case $("$cxx" -dumpmachine) in
x86_64*) processor='x86_64|AMD64' ;;
*) processor='aarch64|arm64' ;;
esac

# From `set_source_files_properties(csrc/FOLDER/FILE PROPERTIES COMPILE_OPTIONS "-a;-b")` below the line of this processor.
# Files for another processor have no flags, and are empty when compiled.
flags_of() {
    tr '\n' ' ' <"$here/../../CMakeLists.txt" | sed 's/elseif(/\
if(/g; s/if(CMAKE_SYSTEM/\
if(CMAKE_SYSTEM/g; s/endif()/\
/g' | grep -F "$processor" | tr ')' '\n' | sed -n "s|.*csrc/$1 PROPERTIES COMPILE_OPTIONS *\"\([^\"]*\)\".*|\1|p" |
        tr ';' ' '
}

object_of() { # SOURCE
    path=${1#"$sources"/}
    echo "$folder/$(echo "${path#"$here"/}" | tr / -).o"
}

compile() { # SOURCE FLAG...
    source=$1
    shift
    # shellcheck disable=SC2046
    "$cxx" -std=c++17 -O3 -ffp-contract=off -fno-trapping-math -Wall -Wextra -Wconversion -Wshadow -Werror \
        -DNO_MANUAL_VECTORIZATION -I"$sources" -isystem "$sources/third_party" $(flags_of "${source#"$sources"/}") "$@" \
        -pthread -c "$source" -o "$(object_of "$source")"
}

objects=
waiting=
for source in "$sources"/*/*.cpp $(for name in $programs; do echo "$here/$name.cpp"; done); do
    case $source in "$sources"/*) objects="$objects $(object_of "$source")" ;; esac
    compile "$source" "$@" &
    if [ -n "$waiting" ]; then wait "$waiting"; fi # two at a time
    waiting=$!
done
wait "$waiting"
for name in $programs; do
    # shellcheck disable=SC2086
    "$cxx" "$@" "$folder/$name.cpp.o" $objects -pthread -o "$folder/$name"
done
