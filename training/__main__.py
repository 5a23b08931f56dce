"""`python -m training` is `structvpr train`."""

import sys

from sdk.cli import main

main(["train", *sys.argv[1:]])
