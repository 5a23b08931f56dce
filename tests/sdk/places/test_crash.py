"""The two commands that hurt a map on purpose, in small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_kills_and_damages_cost_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    command = Path(__file__).parents[3] / "benchmarks" / "maps" / "crash.py"
    record = tmp_path / "crash.json"
    run = subprocess.run(
        [sys.executable, command, "--kills", "10", "--damages", "20", "--json", record], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    figures = json.loads(record.read_text())
    assert figures["kills"]["kills"] == 10
    assert figures["kills"]["acknowledged"] > 0
    assert (figures["kills"]["lost"], figures["kills"]["failed_opens"]) == (0, 0)
    for kind in ("scan", "graph"):
        assert figures["damages"][kind]["damages"] == 20
        assert figures["damages"][kind]["wrong_answers"] == 0
        assert figures["damages"][kind]["rebuilt"] > 0
