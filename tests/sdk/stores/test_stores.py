"""Stores: the local one follows its protocol, and a Localizer needs nothing more than that."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from map_fakes import FakeBackend, Frame, unit_rows

import sdk
from sdk import answers, localizer
from sdk.stores import PlaceStore, open_store

CONTRACT = FakeBackend().contract


class MemoryStore:
    """Places in a list, compared one by one."""

    location = "memory"
    geography: sdk.geography.Geography = "local"

    def __init__(self) -> None:
        self.held: dict[int, tuple[sdk.Place, npt.NDArray[np.float32]]] = {}
        self.next_id = 1
        self.followed = 0

    def __len__(self) -> int:
        return len(self.held)

    def search(
        self, descriptor: npt.NDArray[np.float32], k: int, *, timings_ms: MutableMapping[str, float] | None = None
    ) -> list[answers.Match]:
        matches = [answers.Match(place, float(row @ descriptor)) for place, row in self.held.values()]
        return sorted(matches, key=lambda match: -match.similarity)[:k]

    def places(self, ids: Sequence[int]) -> list[sdk.Place]:
        return [self.held[place_id][0] for place_id in ids if place_id in self.held]

    def add(self, places: Sequence[sdk.Place], descriptors: npt.NDArray[np.float32]) -> list[sdk.Place]:
        added = []
        for place, row in zip(places, descriptors, strict=True):
            added.append(replace(place, id=self.next_id))
            self.held[self.next_id] = (added[-1], row)
            self.next_id += 1
        return added

    def remove(self, ids: Sequence[int]) -> None:
        for place_id in ids:
            del self.held[place_id]

    def update(self, place: sdk.Place, descriptor: npt.NDArray[np.float32] | None = None) -> None:
        row = self.held[place.id or 0][1] if descriptor is None else descriptor
        self.held[place.id or 0] = (place, row)

    def search_method(self, k: int = 5) -> str:
        return "by hand"

    def wait_until_ready(self) -> None:
        pass

    def follow(self) -> None:
        self.followed += 1

    def close(self) -> None:
        self.held.clear()


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, map_path: Path) -> PlaceStore:
    return MemoryStore() if request.param == "memory" else open_store(map_path, CONTRACT, create=True)


def test_a_store_holds_what_it_was_given(store: PlaceStore) -> None:
    rows = unit_rows(5)
    added = store.add([sdk.Place(str(i), (i, 0)) for i in range(5)], rows)
    assert [place.name for place in added] == list("01234")
    ids = [place.id or 0 for place in added]
    best = store.search(rows[3], 2)[0]
    assert (best.place, round(best.similarity, 2)) == (added[3], 1.0)
    store.update(replace(added[3], name="moved"))
    store.update(added[4], rows[0])
    store.remove([ids[0]])
    assert [place.name for place in store.places(ids)] == ["1", "2", "moved", "4"]
    assert [match.place.name for match in store.search(rows[0], 1)] == ["4"]
    assert len(store.search(rows[0], 99)) == len(store) == 4
    store.close()


def test_a_localizer_asks_any_store(monkeypatch: pytest.MonkeyPatch, frames: list[Frame]) -> None:
    store = MemoryStore()
    monkeypatch.setattr(localizer, "open_store", lambda uri, contract, **options: store)
    with sdk.Localizer(FakeBackend(), "milvus://city") as asking:
        places = asking.add_many([(frame, sdk.Place(str(i), (i, 0))) for i, frame in enumerate(frames)])
        answer = asking.query(frames[7], k=3, apart_m=2)
        assert answer.place == places[7]
        assert all(abs(match.place.position[0] - 7) > 2 for match in answer.matches[1:] if match.place.position)
        assert store.followed == 1
        with pytest.raises(sdk.UsageError, match="memory: is not a local map"):
            _ = asking.map
        asking.remove(places[7].id or 0)
        assert asking.query(frames[7]).place != places[7]


def test_an_address_of_no_store_is_refused() -> None:
    with pytest.raises(sdk.UsageError, match=r"redis://host/city: no store has the scheme redis; "):
        open_store("redis://host/city", CONTRACT)


def test_repeated_searches_are_timed_as_searches(map_path: Path, frames: list[Frame]) -> None:
    with sdk.Localizer(FakeBackend(), map_path, create=True) as asking:
        asking.add_many([(frame, sdk.Place(str(i), (0, 0))) for i, frame in enumerate(frames)])
        plain, apart = asking.query(frames[0], k=2), asking.query(frames[0], k=2, apart_m=1)
    stages = {"prepare", "infer", "normalize", "search", "lookup", "total"}
    assert plain.timings_ms.keys() == stages
    assert apart.timings_ms.keys() == stages | {"apart"}
    assert sum(apart.timings_ms.values()) <= 2 * apart.timings_ms["total"]
