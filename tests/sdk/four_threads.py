"""Four threads that ask one network at the same time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np


def wrong_answers(backend: Any, batches: Sequence[Any], expected: Sequence[Any], each: int) -> list[Any]:
    """Numbers of the queries, `each` of every thread, that were answered otherwise than expected, and exceptions."""
    wrong: list[Any] = []
    start = threading.Barrier(4)

    def ask(first: int) -> None:
        start.wait()
        for i in range(first, first + each):
            try:
                if not np.array_equal(backend.infer(batches[i % 4])["raw_descriptor"], expected[i % 4]):
                    wrong.append(i)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong
