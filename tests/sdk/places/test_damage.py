"""What is not a sound map is refused in one sentence, and nothing is made or changed in refusing it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from map_fakes import FakeBackend, Frame, assert_finds, localizer_with, make_frames, neighbours

import sdk

Damage = Callable[[Path], object]


def sql(path: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement, values)
    connection.close()


def other_database(path: Path) -> None:
    path.unlink()
    sql(path, "CREATE TABLE cats (name)")


def cut(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share) // 4096 * 4096)


def meta(key: str, value: str) -> Damage:
    return lambda path: sql(path, "UPDATE meta SET value = ? WHERE key = ?", value, key)


UNOPENABLE: dict[str, tuple[Damage, type[Exception], str]] = {
    "missing": (lambda path: path.unlink(), sdk.MapError, "there is no such file"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), sdk.MapError, "there is no such file"),
    "empty": (lambda path: os.truncate(path, 0), sdk.MapError, "has 0 bytes"),
    "text": (lambda path: path.write_text("image,x_m,y_m\n" * 500), sdk.MapError, "file is not a database"),
    "header cut": (lambda path: os.truncate(path, 60), sdk.MapError, "has 60 bytes"),
    "first page only": (lambda path: os.truncate(path, 4096), sdk.MapError, "malformed"),
    "cut in the middle": (lambda path: cut(path, 0.6), sdk.MapError, "malformed"),
    "last page cut": (lambda path: cut(path, 0.99), sdk.MapError, "malformed"),
    "another database": (other_database, sdk.MapError, "another program's database"),
    "future": (lambda path: sql(path, "PRAGMA user_version = 99"), sdk.MapError, "schema version 99"),
    "no table": (lambda path: sql(path, "DROP TABLE meta"), sdk.MapError, "no such table"),
    "no digest": (lambda path: sql(path, "DELETE FROM meta WHERE key = 'digest'"), sdk.MapError, "meta is damaged"),
    "no contract": (lambda path: sql(path, "DELETE FROM meta WHERE key = 'contract'"), sdk.MapError, "meta is damaged"),
    "bad digest": (meta("digest", "wrong"), sdk.MapError, "meta is damaged"),
    "bad count": (meta("count", "many"), sdk.MapError, "meta is damaged"),
    "bad dtype": (meta("descriptor_dtype", "int3"), sdk.MapError, "'int3'"),
    "bad geography": (meta("geography", "mars"), sdk.MapError, "'mars'"),
    "contract no JSON": (meta("contract", "{"), sdk.ContractError, r"contract is no.* JSON"),
    "contract no object": (meta("contract", "[1]"), sdk.ContractError, "expected an object"),
    "contract lacks": (meta("contract", "{}"), sdk.ContractError, "lacks"),
}


@pytest.mark.parametrize("kind", UNOPENABLE)
def test_what_is_no_map_is_refused_and_left_alone(map_path: Path, kind: str) -> None:
    damage, error, words = UNOPENABLE[kind]
    localizer_with(map_path, make_frames(60)).close()
    damage(map_path)
    before = map_path.read_bytes() if map_path.is_file() else None
    there = neighbours(map_path)
    with pytest.raises(error, match=words) as refusal:
        sdk.Localizer(FakeBackend(), map_path)
    message = str(refusal.value)
    assert message.startswith(str(map_path))
    assert "\n" not in message
    assert neighbours(map_path) == there
    assert (map_path.read_bytes() if map_path.is_file() else None) == before


def test_another_model_is_refused_with_both_names(map_path: Path, frames: list[Frame]) -> None:
    localizer_with(map_path, frames).close()
    with pytest.raises(sdk.ContractError, match="build the map again with this model"):
        sdk.Localizer(FakeBackend(weights="b" * 64), map_path)
    with sdk.Localizer(FakeBackend(), map_path) as localizer:
        assert_finds(localizer, dict(zip("012", frames, strict=False)))


def flip_a_descriptor(path: Path) -> None:
    connection = sqlite3.connect(path)
    blob = connection.execute("SELECT descriptor FROM places WHERE id = 3").fetchone()[0]
    connection.close()
    content = bytearray(path.read_bytes())
    at = content.find(blob)
    assert at > 0
    content[at + 20] ^= 0x01
    path.write_bytes(content)


UNSOUND: dict[str, tuple[Damage, str]] = {
    "a descriptor's bit": (flip_a_descriptor, "are not those that were written"),
    "a descriptor too short": (
        lambda path: sql(path, "UPDATE places SET descriptor = x'00ff' WHERE id = 3"),
        "place 3 has 2 bytes, expected 64",
    ),
    "a descriptor that is text": (
        lambda path: sql(path, "UPDATE places SET descriptor = 'text' WHERE id = 3"),
        "place 3 has 0 bytes, expected 64",
    ),
    "a descriptor of zeros": (
        lambda path: sql(path, "UPDATE places SET descriptor = zeroblob(64) WHERE id = 3"),
        "is damaged",
    ),
    "a place deleted": (lambda path: sql(path, "DELETE FROM places WHERE id = 3"), "are not those that were written"),
    "a place copied": (
        lambda path: sql(path, "INSERT INTO places SELECT 99,name,p0,p1,p2,1,2,image,traverse,descriptor FROM places "
                               "WHERE id = 3"),
        "are not those that were written",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNSOUND)
@pytest.mark.parametrize("index", ["with index", "without"])
def test_a_changed_map_is_found_by_check_and_never_rebuilt_from(map_path: Path, kind: str, index: str) -> None:
    damage, words = UNSOUND[kind]
    localizer_with(map_path, make_frames(60)).close()
    damage(map_path)
    if index == "without":
        map_path.with_name(map_path.name + ".index").unlink()
    before = map_path.read_bytes()
    place_map = sdk.PlaceMap.open(map_path)
    assert any(words in finding for finding in place_map.check()), place_map.check()
    place_map.close()
    if index == "without":
        with pytest.raises(sdk.MapError, match=words.split(", ")[0]):
            sdk.Localizer(FakeBackend(), map_path)
        assert neighbours(map_path) == {map_path.name}
    assert map_path.read_bytes() == before


def test_a_place_that_somebody_deleted_is_left_out_of_the_answer(map_path: Path, frames: list[Frame]) -> None:
    localizer_with(map_path, frames).close()
    sql(map_path, "DELETE FROM places WHERE name = '3'")
    with sdk.Localizer(FakeBackend(), map_path) as localizer:
        assert localizer.store.index.origin == "read"
        assert "3" not in {match.place.name for match in localizer.query(frames[3], k=12).matches}
        assert localizer.store.map.check() != []


# ------------------------------------------------------------------ media that cannot be written


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can reach; pytest's own are its user's alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
        Path(name).chmod(0o755)


READ_ONLY = """
frames, backend, new = make_frames(12), FakeBackend(), make_frames(1, seed=5)[0]
if os.getuid() == 0 and len(sys.argv) > 2:
    os.setuid(65534)
localizer = sdk.Localizer(backend, sys.argv[1])
assert_finds(localizer, {str(i): frame for i, frame in enumerate(frames)})
try:
    localizer.add(frames[0], sdk.Place())
except sdk.MapError as error:
    print(error, flush=True)
assert localizer.store.map.check() == []
sys.stdin.readline()
size = len(localizer.query(frames[0], k=99).matches)
assert_finds(localizer, {"new": new} if size > 12 else {})
print(size, flush=True)
localizer.close()
"""


@pytest.mark.parametrize("index", ["with index", "without"])
def test_a_user_who_may_only_read_is_answered(folder: Path, child, index: str) -> None:  # type: ignore[no-untyped-def]
    path = folder / "campus.places"
    localizer_with(path, make_frames(12)).close()
    if index == "without":
        path.with_name(path.name + ".index").unlink()
    before = neighbours(path)
    for entry in folder.iterdir():
        entry.chmod(0o444)
    folder.chmod(0o555)
    reader = child(READ_ONLY, path, "drop rights")
    assert "cannot be written (read-only, or no room beside it)" in reader.says()
    reader.tell()
    assert reader.says() == "12"
    reader.end()
    assert neighbours(path) == before


@pytest.mark.skipif(os.getuid() != 0, reason="needs a second user, which only root can become")
@pytest.mark.parametrize("writer", ["stays", "closes"])
def test_a_user_who_may_only_read_sees_what_another_adds(folder: Path, child, writer: str) -> None:  # type: ignore[no-untyped-def]
    path = folder / "campus.places"
    localizer_with(path, make_frames(12)).close()
    reader = child(READ_ONLY, path, "drop rights")
    reader.says()
    localizer = sdk.Localizer(FakeBackend(), path)
    localizer.add(make_frames(1, seed=5)[0], sdk.Place("new"))
    if writer == "closes":
        localizer.close()
    reader.tell()
    assert reader.says() == "13"
    reader.end()
    localizer.close()


@pytest.mark.parametrize("state", ["closed", "crashed"])
def test_a_medium_that_is_mounted_read_only(folder: Path, child, state: str) -> None:  # type: ignore[no-untyped-def]
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True).returncode != 0:
        pytest.skip("this user may not mount a medium")
    try:
        path = folder / "campus.places"
        localizer = localizer_with(path, make_frames(12))
        if state == "crashed":
            for entry in list(folder.iterdir()):  # its files as a power cut leaves them
                shutil.copy(entry, folder / f"crashed{entry.name[6:]}")
            path = folder / "crashed.places"
        localizer.close()
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        reader = child(READ_ONLY, path)
        assert "cannot be written (read-only, or no room beside it)" in reader.says()
        reader.tell()
        assert reader.says() == "12"
        reader.end()
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_hides_no_map(folder: Path) -> None:
    if (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True).returncode
        != 0
    ):
        pytest.skip("this user may not mount a medium")
    try:
        path = folder / "campus.places"
        frames = make_frames(12)
        localizer_with(path, frames).close()
        with contextlib.suppress(OSError), (folder / "log").open("wb", buffering=0) as log:
            while True:
                log.write(bytes(4096))
        with sdk.Localizer(FakeBackend(), path) as localizer:
            assert_finds(localizer, {str(i): frame for i, frame in enumerate(frames)})
            with pytest.raises(sdk.MapError, match="no room beside it"):
                localizer.add(frames[0], sdk.Place())
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_the_log_of_a_crash_needs_a_folder_to_be_read(folder: Path, child) -> None:  # type: ignore[no-untyped-def]
    if os.getuid() != 0:
        pytest.skip("needs a second user, which only root can become")
    path = folder / "campus.places"
    localizer = localizer_with(path, make_frames(12))
    crashed = folder / "crashed.places"
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{crashed}{suffix}")
    localizer.close()
    reader = child(
        """
        os.setuid(65534)
        try:
            sdk.PlaceMap.open(sys.argv[1])
        except sdk.MapError as error:
            print(error)
        """,
        crashed,
    )
    assert "copy the map and its -wal file" in reader.says()
