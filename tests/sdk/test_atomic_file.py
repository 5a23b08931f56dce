"""Files are whole or not there, and nothing but files is replaced."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sdk import WriteError
from sdk.atomic_file import replace_when_done


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with replace_when_done(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def fail_half_way(temporary: Path) -> None:
    temporary.write_bytes(b"half")
    raise KeyError("half-way")


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with pytest.raises(KeyError, match="half-way"), replace_when_done(path) as temporary:
        fail_half_way(temporary)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, kind: str) -> None:
    """As root, `-o /dev/null` would put a file in the place of the device."""
    path = tmp_path / "output"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with (
        pytest.raises(WriteError, match=r"cannot write .*output: it is a .*; name a file"),
        replace_when_done(path),
    ):
        pytest.fail("work was begun")
    assert not path.is_file()


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    path = tmp_path / "none" / "model.onnx"
    with pytest.raises(WriteError, match=r"cannot write .*none/model\.onnx: No such file"), replace_when_done(path):
        pytest.fail("work was begun")
