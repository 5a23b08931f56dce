#!/bin/sh
# Checks for what pip cannot install: git, a C++ compiler, and Python with venv and headers. `make` runs this.
python=${1:-python3}
missing=

note() { printf 'missing: %s\n' "$1" >&2; missing=yes; }

command -v git >/dev/null || note "git"
command -v g++ >/dev/null || note "g++"
if ! command -v "$python" >/dev/null; then
    note "$python (3.10 or newer)"
else
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || note "Python 3.10 or newer ($python is older)"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || note "the venv module of $python"
    "$python" - <<'PY' || note "the headers of $python (Python.h)"
import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))
PY
fi
if [ -n "$missing" ]; then
    echo "Install these and run make again. On Debian and Ubuntu: sudo apt install git make g++ python3-venv python3-dev" >&2
    exit 1
fi
