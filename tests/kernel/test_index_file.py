"""The index file: the format as csrc/index_file.hpp documents it, and every way in which a file can be wrong."""

import resource
import struct

import numpy as np
import pytest

from sdk._core import INDEX_FILE_VERSION, IndexFileError, PlaceIndex, l2_normalize

CONTRACT, STATE = bytes(range(32)), bytes(range(100, 132))
DIM, ROWS, M = 5, 40, 2

HEADER = struct.Struct("<8sIIQQ32s32sIIiIQ6I44sI")
BEFORE_CRCS = ["magic", "version", "dim", "rows", "file_bytes", "contract", "state"]
BEFORE_CRCS += ["m", "ef_construction", "max_level", "entry_row", "upper_words"]


def crc32c_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


TABLE = crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def parse(data):
    """Header by field, the six sections as arrays, and their checksums."""
    values = HEADER.unpack_from(data)
    header = dict(zip(BEFORE_CRCS, values, strict=False))
    rows, dim, m = header["rows"], header["dim"], header["m"]
    graph_rows = rows if m else 0
    layout = [("<i8", (rows,)), ("u1", (rows,)), ("<f4", (rows, dim)), ("u1", (graph_rows,))]
    layout += [("<u4", (graph_rows, 2 * m + 1)), ("<u4", (header["upper_words"] // (m + 1), m + 1))]
    sections, at = [], HEADER.size
    for dtype, shape in layout:
        section = np.frombuffer(data, dtype, int(np.prod(shape)), at).reshape(shape).copy()
        sections.append(section)
        at += section.nbytes
    assert at == len(data)
    return header, sections, values[12:]


def pack(header, sections):
    """The file of `header`, right or wrong, with every checksum right."""
    body = [section.tobytes() for section in sections]
    fields = [header[name] for name in BEFORE_CRCS]
    head = HEADER.pack(*fields, *map(crc32c, body), bytes(44), 0)[:-4]
    return head + struct.pack("<I", crc32c(head)) + b"".join(body)


def make_index(rows=ROWS, m=M, removed=(3, 17)):
    index = PlaceIndex(DIM)
    index.add(np.arange(rows) * 10, l2_normalize(np.random.default_rng(0).normal(size=(rows, DIM)).astype("f4")))
    if m:
        index.build_graph(m=m, ef_construction=9 * m)
    index.remove(np.array(removed, int) * 10)
    return index


def saved(path, index):
    index.save(str(path), contract=CONTRACT, state=STATE)
    return path.read_bytes()


def load(path, data=None, dim=DIM, contract=CONTRACT):
    if data is not None:
        path.write_bytes(data)
    return PlaceIndex.load(str(path), dim=dim, contract=contract)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "campus.places.index"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("good") / "index", make_index())


@pytest.mark.parametrize("rows", [0, 1, 40, 2100])  # 2100: three blocks, the last one in part
@pytest.mark.parametrize("m", [0, M])
@pytest.mark.parametrize("removed", [(), (0,)])
def test_a_loaded_index_is_the_saved_one(path, rows, m, removed):
    index = make_index(rows, m, removed[:rows])
    data = saved(path, index)
    loaded, state = load(path)
    assert state == STATE
    for name in ("dim", "removed", "last_id", "has_graph"):
        assert getattr(loaded, name) == getattr(index, name)
    assert len(loaded) == len(index)
    queries = l2_normalize(np.random.default_rng(1).normal(size=(50, DIM)).astype("f4"))
    for before, after in zip(index.search(queries, 7), loaded.search(queries, 7), strict=True):
        np.testing.assert_array_equal(before, after)
    assert saved(path.with_name("again"), loaded) == data
    loaded.add([987654], queries[0])
    assert loaded.search(queries[0], 1)[0].tolist() == [987654]
    assert len(loaded.search(queries[0], 9999)[0]) == len(loaded)


def test_a_loaded_graph_grows(path):
    index = make_index(rows=1000, m=16, removed=())
    saved(path, index)
    loaded, _ = load(path)
    rows = l2_normalize(np.random.default_rng(2).normal(size=(500, DIM)).astype("f4"))
    loaded.add(np.arange(500) + 50000, rows)
    assert (loaded.search(rows, 1)[0][:, 0] == np.arange(500) + 50000).mean() > 0.95
    np.testing.assert_array_equal(loaded.search(rows, 3, ef=1500), loaded.search(rows, 3, exact=True))


def test_the_file_is_as_documented(good):
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720, B.4
    header, (ids, removed, descriptors, levels, level0, upper), crcs = parse(good)
    assert header["magic"] == b"VPRINDEX"
    assert header["version"] == INDEX_FILE_VERSION == 1
    assert (header["dim"], header["rows"], header["file_bytes"]) == (DIM, ROWS, len(good))
    assert (header["contract"], header["state"]) == (CONTRACT, STATE)
    assert (header["m"], header["ef_construction"]) == (M, 9 * M)
    assert header["max_level"] == levels.max() == levels[header["entry_row"]]
    assert crcs[6] == bytes(44)
    assert pack(*parse(good)[:2]) == good  # the six checksums and the header's

    np.testing.assert_array_equal(ids, np.arange(ROWS) * 10)
    assert np.flatnonzero(removed).tolist() == [3, 17]
    index = make_index(removed=())
    np.testing.assert_array_equal(index.search(descriptors, 1, exact=True)[0][:, 0], ids)
    assert len(upper) == levels.sum() > 0
    assert level0[:, 0].min() > 0
    for links in [*level0, *upper]:
        assert links[0] < len(links)
        assert (links[1 : links[0] + 1] < ROWS).all()
        assert not links[links[0] + 1 :].any()


def test_a_file_written_by_the_documentation_can_be_read(path):
    rows = np.eye(3, DIM, dtype="<f4")
    sections = [np.array([30, 10, 20], "<i8"), np.array([0, 1, 0], "u1"), rows, *[np.zeros(0, "u1")] * 3]
    numbers = [b"VPRINDEX", 1, DIM, 3, HEADER.size + 3 * (8 + 1 + 4 * DIM), CONTRACT, STATE, 0, 0, -1, 0, 0]
    index, state = load(path, pack(dict(zip(BEFORE_CRCS, numbers, strict=True)), sections))
    ids, similarities = index.search(rows, 2)
    assert (len(index), index.removed, index.last_id, state) == (2, 1, 30, STATE)
    assert ids.tolist() == [[30, 20], [30, 20], [20, 30]]
    assert similarities.tolist() == [[1, 0], [0, 0], [1, 0]]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "has 0 bytes, expected at least 192"),
        (lambda data: data[:191], "has 191 bytes, expected at least 192"),
        (lambda data: data[:-1], r"has \d+ bytes, expected \d+ for its 40 rows"),
        (lambda data: data + b"\0", r"has \d+ bytes, expected \d+ for its 40 rows"),
        (lambda data: b"SQLite format 3\0" + data[16:], "is not an index file"),
        (lambda data: data[:8] + struct.pack("<I", 2) + data[12:], "has version 2, this structvpr reads up to 1"),
        (lambda data: data[:64] + b"\xff" + data[65:], "has a damaged header"),
        (lambda data: data[:150] + b"\xff" + data[151:], "has a damaged header"),
    ],
)
def test_a_damaged_file_is_named_and_described(path, good, damage, message):
    with pytest.raises(IndexFileError, match=f"{path}: {message}"):
        load(path, damage(good))


def test_a_file_for_something_else_is_refused(path, good):
    path.write_bytes(good)
    with pytest.raises(IndexFileError, match="holds descriptors of 5 dimensions, expected 6"):
        load(path, dim=6)
    with pytest.raises(IndexFileError, match="was made with another model"):
        load(path, contract=bytes(32))
    with pytest.raises(ValueError, match="contract has 31 bytes, expected 32"):
        load(path, contract=bytes(31))
    for missing in (path.with_name("absent"), path / "below a file", path.parent):
        with pytest.raises(IndexFileError, match=f"{missing}: cannot be (opened|read): "):
            load(missing)


@pytest.mark.parametrize("section", range(6))
def test_damage_is_found_in_every_section(path, good, section):
    sizes = [part.nbytes for part in parse(good)[1]]
    middle = HEADER.size + sum(sizes[:section]) + sizes[section] // 2
    assert sizes[section] > 0
    with pytest.raises(IndexFileError, match=f"is damaged in section {section + 1}$"):
        load(path, good[:middle] + bytes([good[middle] ^ 16]) + good[middle + 1 :])
    with pytest.raises(IndexFileError, match=f"has {middle} bytes, expected {len(good)}"):
        load(path, good[:middle])
    with pytest.raises(IndexFileError):  # cut, and the header says so with a right checksum
        load(path, pack({**parse(good)[0], "file_bytes": middle}, parse(good)[1])[:middle])


def test_no_flipped_bit_is_believed(path, good):
    rng = np.random.default_rng(5)
    for bit in [*rng.choice(HEADER.size * 8, 100, replace=False), *rng.choice(len(good) * 8, 400, replace=False)]:
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(IndexFileError):
            load(path, bytes(data))


# Fields of the header, or places in a section (by its number), and the lies put there. Names stand for numbers that
# depend on the graph: see `meant` below.
LIES = {
    "link out of range": ({(5, 7, 1): ROWS}, "link to a row that is not there"),
    "upper link out of range": ({(6, 0, 0): 1, (6, 0, 1): 2**32 - 1}, "link to a row that is not there"),
    "upper link to a low row": ({(6, "high row's list", 0): 1, (6, "high row's list", 1): "low row"}, "not there"),
    "list too long": ({(5, 7, 0): 2 * M + 1}, "list of links that is longer than its room"),
    "list far too long": ({(5, 39, 0): 2**32 - 1}, "list of links that is longer than its room"),
    "upper list too long": ({(6, -1, 0): M + 1}, "list of links that is longer than its room"),
    "entry out of range": ({"entry_row": ROWS}, "graph without a valid entry"),
    "entry below the top": ({"entry_row": "low row"}, "graph without a valid entry"),
    "top too high": ({"max_level": "above the top"}, "graph without a valid entry"),
    "no top": ({"max_level": -1}, "graph without a valid entry"),
    "top too low": ({"max_level": 0, "entry_row": "low row"}, "row above the top of its graph"),
    "level without a list": ({(4, "low row"): 1}, "graph of the wrong size"),
    "m too small": ({"m": 1}, "bytes, expected"),
    "m too large": ({"m": 2**32 - 1}, "bytes, expected"),
    "no effort": ({"ef_construction": 1}, "m 2 and ef_construction 1, expected 2 to 128 and m to 4096"),
    "boundless effort": ({"ef_construction": 2**32 - 1}, "m 2 and ef_construction 4294967295, expected"),
    "an id twice": ({(1, 5): 60}, "holds place id 60 twice"),
    "a negative id": ({(1, 5): -1}, "holds place id -1 twice or negative"),
    "version 0": ({"version": 0}, "has version 0, this structvpr reads up to 1"),
    # The products of these two are right in 64 bits.
    "rows that wrap": ({"rows": ROWS + 2**63}, "bytes, expected"),
    "words that wrap": ({"upper_words": "words + 2**62"}, "bytes, expected"),
    **{
        f"{rows} rows": ({"rows": rows}, f"bytes, expected .* its {rows} rows")
        for rows in (ROWS - 1, ROWS + 1, 2**28, 2**40, 2**61, 2**64 - 1)
    },
}


@pytest.mark.parametrize(("lies", "message"), LIES.values(), ids=LIES.keys())
def test_a_lie_with_right_checksums_is_refused(path, good, lies, message):
    header, sections, _ = parse(good)
    levels = sections[3]
    meant = {
        "low row": int(np.flatnonzero(levels == 0)[0]),
        "high row's list": int(levels[: np.flatnonzero(levels == 1)[0]].sum()),
        "above the top": header["max_level"] + 1,
        "words + 2**62": header["upper_words"] + 2**62,
    }
    for place, lie in lies.items():
        if place in header:
            header[place] = meant.get(lie, lie)
        else:
            sections[place[0] - 1][tuple(meant.get(at, at) for at in place[1:])] = meant.get(lie, lie)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(IndexFileError, match=message):
        load(path, pack(header, sections))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB: 2**28 ids would take 2 GiB


def test_m_of_one_is_refused_even_if_all_sizes_fit(path, good):
    header, (ids, removed, descriptors, *_), _ = parse(good)
    graph = [np.zeros(ROWS, "u1"), np.zeros((ROWS, 3), "<u4"), np.zeros(0, "<u4")]
    size = HEADER.size + sum(part.nbytes for part in (ids, removed, descriptors, *graph))
    header.update(m=1, max_level=0, entry_row=0, upper_words=0, file_bytes=size)
    with pytest.raises(IndexFileError, match="has a graph with m 1 and ef_construction 18, expected 2 to 128"):
        load(path, pack(header, [ids, removed, descriptors, *graph]))


def test_a_graph_without_rows_may_not_have_an_entry(path):
    header, sections, _ = parse(saved(path, make_index(rows=0, removed=())))
    with pytest.raises(IndexFileError, match="without a valid entry"):
        load(path, pack({**header, "entry_row": 0, "max_level": 0}, sections))


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(path):
    old = saved(path, make_index())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, hard))  # as a full disk: Python ignores SIGXFSZ
    try:
        with pytest.raises(IndexFileError, match="cannot be written: File too large"):
            saved(path, make_index(rows=2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_hold_a_file_is_refused(path):
    with pytest.raises(IndexFileError, match=r"absent/index\.tmp-.*: cannot be opened: No such file or directory"):
        saved(path.parent / "absent" / "index", make_index())
    path.mkdir()
    with pytest.raises(IndexFileError, match=f"{path}: cannot be replaced: Is a directory"):
        saved(path, make_index())
    assert list(path.parent.iterdir()) == [path]
