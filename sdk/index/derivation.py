"""Build an index from a map, or apply the map's changes to it. Digests prove the result."""

from __future__ import annotations

from dataclasses import dataclass

from .._core import PlaceIndex
from ..errors import MapError
from ..places.place_map import PlaceMap
from ..places.state import MapState, Pair
from ..progress import StepProgress
from .file import new_index
from .stamp import IndexStamp

__all__ = ["changes_since", "derive_index", "follow"]

PLACES_PER_CALL = 4096


@dataclass(frozen=True)
class Changes:
    """The changes from one moment of a map to a later one."""

    lost: list[int]  # ids of pairs that were removed or replaced
    fresh: list[Pair]
    after: IndexStamp


def derive_index(place_map: PlaceMap, progress: StepProgress) -> tuple[PlaceIndex, IndexStamp]:
    """Build an index of all places of a map.

    Raises:
        MapError: a descriptor is damaged, or the digest of all differs from the map's.
    """
    index, state = new_index(place_map), MapState(0, 0)
    with place_map.snapshot() as moment:
        losses = moment.losses
        for batch in moment.batches():
            index.add([place_id for place_id, _ in batch], place_map.decode(batch))
            state = state.plus(batch)
            progress(len(index), moment.state.count)
    if state != moment.state:
        raise MapError(
            f"{place_map.path}: its descriptors are not those that were written; run `structvpr map verify` and "
            "restore the map from a copy"
        )
    return index, IndexStamp(state, losses)


def changes_since(place_map: PlaceMap, before: IndexStamp, last_id: int) -> Changes | None:
    """The changes of a map since an earlier moment; None if its journal does not account for all of them.

    The earlier pairs, minus the lost ones of the journal, plus the new ones, must have the map's digest. So an index
    state or a journal of another map is detected.

    Args:
        place_map: the map as it is now.
        before: the stamp of an index.
        last_id: the largest id that the index ever held.
    """
    with place_map.snapshot(after_id=last_id) as moment:
        # The journal also holds places that came and went since then and were never in the index.
        lost = {gone: digest for gone, digest in moment.lost_since(before.losses).items() if gone <= last_id}
        fresh = [*moment.pairs_of(list(lost)), *(pair for batch in moment.batches() for pair in batch)]
        after = IndexStamp(moment.state, moment.losses)
    if before.state.without(lost.values()).plus(fresh) != after.state:
        return None
    return Changes(list(lost), fresh, after)


def follow(index: PlaceIndex, place_map: PlaceMap, changes: Changes, progress: StepProgress) -> None:
    """Apply changes to an index.

    Raises:
        IndexFileError: the file that the index was loaded from is damaged.
        ValueError: the index does not match its stamp.
    """
    if changes.lost:
        index.remove(changes.lost)
    for start in range(0, len(changes.fresh), PLACES_PER_CALL):
        batch = changes.fresh[start : start + PLACES_PER_CALL]
        index.add([place_id for place_id, _ in batch], place_map.decode(batch))
        progress(start + len(batch), len(changes.fresh))
