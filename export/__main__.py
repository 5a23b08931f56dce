"""`python -m export` is `structvpr export`."""

import sys

from sdk.cli import main

main(["export", *sys.argv[1:]])
