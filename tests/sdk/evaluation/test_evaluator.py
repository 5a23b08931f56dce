"""Recall of a network whose answers are known beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from map_fakes import FakeBackend, Frame
from pictures import encode, picture, write_pictures

from sdk import FrameError, UsageError
from sdk.describer import Describer
from sdk.evaluation.evaluator import measure_recall
from sdk.evaluation.sets import PlaceSet


class Counting(FakeBackend):
    described = 0

    def infer(self, batch: Frame) -> np.ndarray:
        self.described += 1
        return super().infer(batch)


def test_a_shared_database_is_described_once(tmp_path: Path) -> None:
    database = write_pictures(tmp_path / "database", ["0.png", "1.png", "2.png"])
    none = np.array([], np.int64)
    day = PlaceSet("day", database[:2], database, {"here": [np.array([0]), np.array([2])], "nowhere": [none, none]})
    night = PlaceSet("night", database[1:], database, {"here": [np.array([1]), none]}, untrusted=4)
    backend, told = Counting(), list[tuple[str, int, int]]()
    first, second = measure_recall(Describer(backend), [day, night], [3, 1, 5], lambda *done: told.append(done))
    assert backend.described == 3 + 2 + 2
    assert told == [*(("database", i, 3) for i in (1, 2, 3)), ("day", 1, 2), ("day", 2, 2),
                    ("night", 1, 2), ("night", 2, 2)]  # fmt: skip
    assert (first.queries, first.database, first.untrusted, second.untrusted) == ("day", 3, 0, 4)
    here, nowhere = first.protocols
    assert (here.right, here.queries, here.matched) == ("here", 2, 2)
    assert here.recall_all == here.recall_matched == {"R@1": 0.5, "R@3": 1.0}  # 5 is more than the database has
    assert nowhere.recall_all == {"R@1": 0.0, "R@3": 0.0}
    assert nowhere.recall_matched == {"R@1": None, "R@3": None}
    assert second.protocols[0].recall_all == {"R@1": 0.5, "R@3": 0.5}
    assert second.protocols[0].recall_matched == {"R@1": 1.0, "R@3": 1.0}


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    files = write_pictures(tmp_path, ["0.png", "1.png"])
    with pytest.raises(UsageError, match=r"no K of \[5, 10\] is at most 2, the database's size"):
        measure_recall(Describer(FakeBackend()), [PlaceSet("all", files, files)], [5, 10])
    files[1].write_bytes(encode(picture(0, 16, 16)))
    with pytest.raises(FrameError, match=r"1\.png: the frame is 16 x 16 px"):
        measure_recall(Describer(FakeBackend()), [PlaceSet("all", files, files)], [1])
