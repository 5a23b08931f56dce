#!/bin/sh
# What must be there before pip can do the rest: a compiler, and Python with venv and headers. Run by `make`.
python=${1:-python3}
missing=

note() { printf 'missing: %s\n' "$1" >&2; missing=yes; }

command -v git >/dev/null || note "git"
command -v g++ >/dev/null || note "g++"
if ! command -v "$python" >/dev/null; then
    note "$python (3.10 or newer)"
else
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || note "$python is too old, expected 3.10 or newer"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || note "venv of $python"
    "$python" - <<'PY' || note "headers of $python (Python.h)"
import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))
PY
fi
if [ -n "$missing" ]; then
    echo "install them and run make again; on Debian and Ubuntu: sudo apt install git make g++ python3-venv python3-dev" >&2
    exit 1
fi
