"""How an index is derived from a map: from all of it, or from what has changed; and how either is proved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .._core import PlaceIndex
from ..errors import MapError
from ..places.database import MapState, Pair
from ..places.map_reader import MapReader
from .file import new_index

__all__ = ["Derivation", "Tell", "changes_since", "derive_index", "follow"]

Tell = Callable[[int, int], object]  # places done, places in all
PLACES_A_CALL = 4096


@dataclass(frozen=True)
class Derivation:
    """What an index follows: the map's state, and how many losses the map's journal had counted by then."""

    state: MapState
    losses: int


@dataclass(frozen=True)
class Changes:
    """What leads from an earlier moment of a map to a later one."""

    lost: list[int]  # ids of pairs that were removed or replaced
    fresh: list[Pair]
    after: Derivation


def derive_index(place_map: MapReader, tell: Tell) -> tuple[PlaceIndex, Derivation]:
    """Make an index of all places of a map.

    Raises:
        MapError: a descriptor is damaged, or they are not those that were written.
    """
    index, state = new_index(place_map), MapState(0, 0)
    with place_map.snapshot() as moment:
        losses = moment.losses
        for batch in moment.batches():
            index.add([place_id for place_id, _ in batch], place_map.decode(batch))
            state = state.plus(batch)
            tell(len(index), moment.state.count)
    if state != moment.state:
        raise MapError(
            f"{place_map.path}: its descriptors are not those that were written, expected the digest that "
            "the map keeps of them; run `structvpr map verify` and restore the map from a copy"
        )
    return index, Derivation(state, losses)


def changes_since(place_map: MapReader, before: Derivation, last_id: int) -> Changes | None:
    """What has changed in a map, None if its journal does not account for all of it.

    The pairs of before, without those that the journal says were lost, with those that are new, must be the map's by
    their digests. So a state that was never this map's is found out, and a journal that is not of it too.

    Args:
        place_map: the map as it is now.
        before: what an index follows.
        last_id: the largest id that was ever in that index.
    """
    with place_map.snapshot(after_id=last_id) as moment:
        # Places that came and went since then are in the journal, and were never in the index.
        lost = {gone: digest for gone, digest in moment.lost_since(before.losses).items() if gone <= last_id}
        fresh = [*moment.pairs_of(list(lost)), *(pair for batch in moment.batches() for pair in batch)]
        after = Derivation(moment.state, moment.losses)
    if before.state.without(lost.values()).plus(fresh) != after.state:
        return None
    return Changes(list(lost), fresh, after)


def follow(index: PlaceIndex, place_map: MapReader, changes: Changes, tell: Tell) -> None:
    """Apply changes to an index.

    Raises:
        IndexFileError: the file that the index was loaded from is damaged.
        ValueError: the index does not hold what it was said to follow.
    """
    if changes.lost:
        index.remove(changes.lost)
    for start in range(0, len(changes.fresh), PLACES_A_CALL):
        batch = changes.fresh[start : start + PLACES_A_CALL]
        index.add([place_id for place_id, _ in batch], place_map.decode(batch))
        tell(start + len(batch), len(changes.fresh))
