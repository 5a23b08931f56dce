"""A frame goes in, a place comes out: from several threads, beside other processes, and after interruptions."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from map_fakes import FakeBackend, Frame, assert_finds, localizer_with, make_frames, neighbours

import sdk


class Frames(sdk.Source):
    """A source of frames, see `sdk.Source`."""

    def __init__(self, frames: list[Frame], geography: str | None) -> None:
        self.frames = frames
        self.geography = geography
        self.num_frames = len(frames)

    def __iter__(self):  # type: ignore[no-untyped-def]
        for i, frame in enumerate(self.frames):
            yield sdk.Sighting(frame, sdk.FrameInfo(name=str(i)))


# ------------------------------------------------------------------ asking


def test_a_known_frame_is_answered_with_its_place(map_path: Path, frames: list[Frame]) -> None:
    with localizer_with(map_path, frames) as localizer:
        answer = localizer.query(frames[3], k=3)
        assert answer.place is not None
        assert answer.place is answer.matches[0].place
        assert (answer.place.name, answer.place.position, answer.place.id) == ("3", (3.0, 0.0, 0.0), 4)
        similarities = [match.similarity for match in answer.matches]
        assert len(similarities) == 3
        assert similarities == sorted(similarities, reverse=True)
        assert (answer.known, answer.probability, answer.reason) == (None, None, "uncalibrated")
        stages = {"prepare", "infer", "normalize", "search", "lookup", "total"}
        assert set(answer.timings_ms) == stages
        assert sum(ms for stage, ms in answer.timings_ms.items() if stage != "total") <= answer.timings_ms["total"]
        assert len(localizer.query(frames[0], k=99).matches) == 12
        with pytest.raises(sdk.UsageError, match="expected a whole number >= 1"):
            localizer.query(frames[0], k=0)


def test_an_empty_map_answers_nothing(map_path: Path, frames: list[Frame]) -> None:
    for _ in range(2):
        with sdk.Localizer(FakeBackend(), map_path, create=True) as localizer:
            answer = localizer.query(frames[0])
            assert (answer.matches, answer.place, answer.known, answer.reason) == ((), None, None, "empty map")
            assert localizer.add_many([]) == []


def test_colour_is_the_frame_s_own(map_path: Path, frames: list[Frame]) -> None:
    with localizer_with(map_path, frames) as localizer:
        as_opencv_reads = np.ascontiguousarray(frames[3][:, :, ::-1])
        assert localizer.query(as_opencv_reads, colour="bgr").matches[0].similarity > 0.999
        assert localizer.query(as_opencv_reads).matches[0].similarity < 0.99
    with pytest.raises(ValueError, match="colour is 'grey'"):
        sdk.Localizer(FakeBackend(), map_path, colour="grey")


def test_apart_m_gives_different_places_and_looks_as_far_back_as_it_must(map_path: Path, frames: list[Frame]) -> None:
    generator = np.random.default_rng(0)
    with sdk.Localizer(FakeBackend(), map_path, create=True) as localizer:
        for i in range(60):  # sixty frames of one spot, which crowd the front
            noisy = np.clip(frames[0].astype(int) + generator.integers(-3, 4, frames[0].shape), 0, 255)
            localizer.add(noisy.astype(np.uint8), sdk.Place(f"near {i}", (i / 60, 0)))
        localizer.add(frames[1], sdk.Place("ten", (10, 0)))
        localizer.add(frames[2], sdk.Place("twenty", (20, 0)))
        near = localizer.query(frames[0], k=3)
        assert all(match.place.name.startswith("near") for match in near.matches)
        apart = localizer.query(frames[0], k=3, apart_m=5)
        assert apart.matches[0] == near.matches[0]
        assert {match.place.name for match in apart.matches[1:]} == {"ten", "twenty"}
        assert len(localizer.query(frames[0], k=3, apart_m=15).matches) == 2
        assert len(localizer.query(frames[0], k=9, apart_m=1e9).matches) == 1
        with pytest.raises(sdk.UsageError, match="apart_m is -1, expected metres >= 0"):
            localizer.query(frames[0], apart_m=-1)
        localizer.add(frames[3], sdk.Place("somewhere"))
        assert localizer.query(frames[3], k=1).place == sdk.Place("somewhere", id=63)
        with pytest.raises(sdk.MapError, match="somewhere has none"):
            localizer.query(frames[3], apart_m=5)


def test_apart_m_is_metres_on_the_earth_too(map_path: Path, frames: list[Frame]) -> None:
    with sdk.Localizer(FakeBackend(), map_path, create=True, geography="wgs84") as localizer:
        localizer.add(frames[0], sdk.Place("here", (60.0, 10.0)))
        localizer.add(frames[1], sdk.Place("56 m east", (60.0, 10.001)))
        assert len(localizer.query(frames[0], apart_m=50).matches) == 2
        assert len(localizer.query(frames[0], apart_m=60).matches) == 1


# ------------------------------------------------------------------ changing


def test_add_update_and_remove_are_seen_by_the_next_query(map_path: Path, frames: list[Frame]) -> None:
    localizer = localizer_with(map_path, frames[:3])
    added = localizer.add(frames[5], sdk.Place("five"))
    assert localizer.query(frames[5]).place == added
    localizer.update(sdk.Place("FIVE", id=added.id))
    assert localizer.query(frames[5]).place == sdk.Place("FIVE", id=added.id)
    localizer.update(sdk.Place("six", id=added.id), frames[6])
    assert localizer.query(frames[6]).matches[0].similarity > 0.999
    assert localizer.query(frames[5]).matches[0].similarity < 0.99
    localizer.remove([added.id or 0, 1])
    assert [len(localizer), len(localizer.store.index)] == [2, 2]
    with pytest.raises(sdk.MapError, match="no place 1 among 2; pass the id of a stored place"):
        localizer.remove(1)
    assert_finds(localizer, {"1": frames[1], "2": frames[2]})
    localizer.close()


def test_a_bad_frame_in_a_batch_adds_nothing(map_path: Path, frames: list[Frame]) -> None:
    with localizer_with(map_path, frames[:3]) as localizer:
        with pytest.raises(sdk.FrameError):
            localizer.add_many([(frames[4], sdk.Place()), (frames[5][:, :, 0], sdk.Place())])
        assert len(localizer) == len(localizer.store.index) == 3


@pytest.mark.parametrize("moment", ["frame", "insert", "commit", "index"])
def test_ctrl_c_leaves_nothing_half_written(
    map_path: Path, frames: list[Frame], moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    localizer = localizer_with(map_path, frames[:3])

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    def sightings():  # type: ignore[no-untyped-def]
        yield frames[3], sdk.Place("3")
        if moment == "frame":
            raise KeyboardInterrupt
        yield frames[4], sdk.Place("4")

    with monkeypatch.context() as patch:
        if moment == "insert":
            patch.setattr("sdk.places.database.MapState.plus", interrupt)
        if moment == "commit":
            patch.setattr("sdk.places.database.MapState.to_meta", interrupt)
        if moment == "index":
            patch.setattr(localizer.store.index, "add", interrupt)
        with pytest.raises(KeyboardInterrupt):
            localizer.add_many(sightings())
    written = ["0", "1", "2", "3", "4"] if moment == "index" else ["0", "1", "2"]  # all of them or none
    assert [place.name for place in localizer.store.map.all_places()] == written
    assert localizer.store.map.check() == []
    assert_finds(localizer, {name: frames[int(name)] for name in written})
    localizer.add(frames[7], sdk.Place("7"))
    assert_finds(localizer, {name: frames[int(name)] for name in [*written, "7"]})
    localizer.close()
    with sdk.Localizer(FakeBackend(), map_path) as again:
        assert again.store.index.origin == "read"
        assert_finds(again, {name: frames[int(name)] for name in [*written, "7"]})


def test_build_takes_a_source_of_the_map_s_geography(map_path: Path) -> None:
    frames = make_frames(300)
    told: list[tuple[str, int, int]] = []
    with sdk.Localizer(FakeBackend(), map_path, create=True) as localizer:
        with pytest.raises(sdk.MapError, match="positions are wgs84, expected local"):
            localizer.build(Frames(frames, "wgs84"))  # type: ignore[arg-type]
        assert len(localizer) == 0
        assert localizer.build(Frames(frames, None), progress=lambda *what: told.append(what)) == 300  # type: ignore[arg-type]
        assert told[-1] == ("frames", 300, 300)
        assert_finds(localizer, {"0": frames[0], "255": frames[255], "256": frames[256], "299": frames[299]})


DISK_FULL = """
import resource
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
frames = make_frames(3000)
localizer = localizer_with(Path(sys.argv[1]), frames[:3])
limit = os.path.getsize(sys.argv[1] + "-wal") + 20_000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
added = 3
try:
    while added < 3000:
        localizer.add(frames[added], sdk.Place(str(added), (added, 0)))
        added += 1
except sdk.MapError as error:
    print(error)
assert_finds(localizer, {str(i): frames[i] for i in range(added)})
try:
    localizer.add_many([(frame, sdk.Place()) for frame in frames[:999]])
except sdk.MapError as error:
    print(error)
assert localizer.store.map.check() == []
localizer.close()
print(added)
"""


def test_a_full_disk_costs_no_earlier_place(map_path: Path, child) -> None:  # type: ignore[no-untyped-def]
    first, second, added = child(DISK_FULL, map_path).end().strip().splitlines()
    for message in (first, second):
        assert message.startswith(str(map_path))
        assert "make room, or check the disk" in message
    frames = make_frames(3000)
    with sdk.Localizer(FakeBackend(), map_path) as localizer:
        assert len(localizer) == int(added) < 3000
        assert localizer.store.map.check() == []
        assert_finds(localizer, {str(i): frames[i] for i in range(int(added))})


# ------------------------------------------------------------------ beside others


def test_four_threads_ask_while_one_adds_and_removes(map_path: Path) -> None:
    frames = make_frames(150)
    localizer = localizer_with(map_path, frames[:20])
    done, wrong, asked = threading.Event(), [], [0] * 4

    def ask(number: int) -> None:
        generator = np.random.default_rng(number)
        try:
            while not done.is_set():
                i = int(generator.integers(20))
                answer = localizer.query(frames[i], k=3)
                asked[number] += 1
                if answer.place is None or answer.place.name != str(i):
                    wrong.append((i, answer))
                # Every answer is a place that somebody added, under its own id.
                wrong.extend(m for m in answer.matches if m.place.id != int(m.place.name) + 1)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for i in range(20, 150):
        place = localizer.add(frames[i], sdk.Place(str(i), (i, 0)))
        if i % 10 == 9:
            localizer.remove(place.id or 0)
    done.set()
    for thread in threads:
        thread.join(timeout=20)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert min(asked) > 0
    assert_finds(localizer, {str(i): frames[i] for i in range(150) if i < 20 or i % 10 != 9})
    localizer.close()


def test_others_see_an_add_at_their_next_query(map_path: Path, frames: list[Frame], child) -> None:  # type: ignore[no-untyped-def]
    writer = localizer_with(map_path, frames[:3])
    beside = sdk.Localizer(FakeBackend(), map_path)
    elsewhere = child(
        """
        localizer = sdk.Localizer(FakeBackend(), sys.argv[1])
        for frame in make_frames(12)[3:6]:
            print("ready", flush=True)
            sys.stdin.readline()
            answer = localizer.query(frame)
            print(answer.place.name, round(answer.matches[0].similarity, 3), flush=True)
        try:
            localizer.add(frame, sdk.Place())
        except sdk.MapError as error:
            print(error)
        """,
        map_path,
    )
    for i in (3, 4, 5):
        assert elsewhere.says() == "ready"
        writer.add(frames[i], sdk.Place(str(i)))
        assert_finds(beside, {str(i): frames[i]})
        elsewhere.tell()
        assert elsewhere.says() == f"{i} 1.0"
    assert beside.store.index.origin == "extended by 1 places"
    assert f"process {os.getpid()} is writing this map" in elsewhere.end()
    with pytest.raises(sdk.MapError, match=rf"process {os.getpid()} \(this one, .*\) is writing this map"):
        beside.add(frames[0], sdk.Place())
    writer.remove(5)
    assert beside.query(frames[4]).matches[0].similarity < 0.99
    writer.close()
    beside.add(frames[6], sdk.Place("6"))
    beside.close()
    assert neighbours(map_path) == {map_path.name, map_path.name + ".index"}


def test_a_killed_writer_frees_the_map(map_path: Path, frames: list[Frame], child) -> None:  # type: ignore[no-untyped-def]
    localizer_with(map_path, frames[:3]).close()
    killed = child(
        """
        localizer = sdk.Localizer(FakeBackend(), sys.argv[1])
        localizer.add(make_frames(12)[3], sdk.Place("3"))
        print(os.getpid(), flush=True)
        sys.stdin.readline()
        """,
        map_path,
    )
    holder = killed.says()
    with sdk.Localizer(FakeBackend(), map_path) as localizer:
        with pytest.raises(sdk.MapError, match=f"process {holder} is writing this map"):
            localizer.add(frames[4], sdk.Place("4"))
        killed.kill()
        localizer.add(frames[4], sdk.Place("4"))
        assert_finds(localizer, {str(i): frames[i] for i in range(5)})
    assert neighbours(map_path) == {map_path.name, map_path.name + ".index"}


def test_of_two_who_create_one_map_both_open_it(
    map_path: Path, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    create = sdk.PlaceMap.create

    def slower(*arguments: object, **options: object) -> sdk.PlaceMap:
        monkeypatch.setattr(sdk.PlaceMap, "create", create)
        localizer_with(map_path, frames).close()
        return create(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(sdk.PlaceMap, "create", slower)
    with sdk.Localizer(FakeBackend(), map_path, create=True) as localizer:
        assert len(localizer) == 12


# ------------------------------------------------------------------ closing


def test_a_closed_localizer_says_so_and_leaves_no_lock(map_path: Path, frames: list[Frame]) -> None:
    backend = FakeBackend()
    localizer = sdk.Localizer(backend, map_path, create=True)
    localizer.close()
    localizer.close()
    assert not backend.closed, "a Backend that was passed in is its owner's to close"
    with pytest.raises(sdk.EngineError, match="the Localizer is closed"):
        localizer.query(frames[0])
    for change in (lambda: localizer.remove(1), lambda: localizer.update(sdk.Place(id=1))):
        with pytest.raises(sdk.MapError, match="is closed"):
            change()
    assert neighbours(map_path) == {map_path.name, map_path.name + ".index"}


def test_importing_sdk_loads_no_runtime() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, sdk; print(*sys.modules)"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"onnxruntime", "torch", "onnx", "tensorrt", "typer"} & set(loaded)
