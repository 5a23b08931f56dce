"""The index file: its format as csrc/file/format.hpp states it, and every way in which a file can be wrong."""

import resource
import struct

import numpy as np
import pytest

from sdk._core import INDEX_FILE_VERSION, IndexFileError, PlaceIndex, instruction_sets, l2_normalize

CONTRACT, STATE = bytes(range(32)), bytes(range(100, 132))
DIM, ROWS, M = 5, 40, 2
PAGE, BLOCK = 4096, 65536
PRECISIONS = ["float16", "float32", "int8"]
METHODS = ["scan", "sketch", "graph"]

HEADER = struct.Struct("<8s4I2Q32s32s6I2fI")
FIELDS = ["magic", "version", "dim", "metric", "precision", "rows", "file_bytes", "contract", "state", "m"]
FIELDS += ["ef_construction", "entry", "upper_nodes", "upper_lists", "twins", "spread", "farthest", "checksums_crc"]
SECTIONS = ["middle", "links", "upper nodes", "upper links", "twins", "ids", "removed", "high bounds", "bounds"]
SECTIONS += ["upper planes", "lower planes", "values", "sketches"]
LAZY = SECTIONS[7:]
NONE = 2**32 - 1


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


def block_checksum(data):
    quarter = len(data) // 4
    return crc32c(b"".join(struct.pack("<I", crc32c(data[i * quarter :][:quarter])) for i in range(4)))


def pages(size):
    return -(-size // PAGE) * PAGE


def pages_of_blocks(size):
    return -(-size // BLOCK) * BLOCK


def layout(header):
    """(dtype, shape) of each section."""
    rows, dim, m = header["rows"], header["dim"], header["m"]
    links = -(-2 * m // 16) * 16
    code_dim, value_count = -(-dim // 128) * 128, -(-dim // 32) * 32
    dtype, groups = [("<f2", code_dim), ("<f4", code_dim), ("u1", 0)][header["precision"]]
    groups = min(groups, max(256, min(512, -(-groups // 256) * 128))) // 4  # half the dimensions, but 256 to 512
    return [
        ("<f4", (dim,)),
        ("<u4", (rows if m else 0, links)),
        ("<u4", (header["upper_nodes"], 3)),
        ("<u4", (header["upper_lists"], m)),
        ("<u4", (header["twins"], 2)),
        ("<i8", (rows,)),
        *[("u1", (rows,))] * 3,
        *[("u1", (rows, code_dim // 2))] * 2,
        (dtype, (rows, value_count if groups else 0)),
        ("u1", (-(-rows // 32), groups, 16)),
    ]


def places(header):
    """Where each section starts, and the end."""
    sizes = [pages(int(np.prod(shape)) * np.dtype(dtype).itemsize) for dtype, shape in layout(header)]
    first = PAGE + pages(-(-sum(sizes) // BLOCK) * 4)
    return np.cumsum([first, *sizes])


def parse(data):
    """The header by field and the sections as arrays by name. All other bytes must be zero."""
    header = dict(zip(FIELDS, HEADER.unpack_from(data), strict=True))
    assert header["file_bytes"] == len(data) == places(header)[-1]
    assert not any(data[HEADER.size : PAGE - 4])
    sections = {}
    for name, (dtype, shape), at, end in zip(
        SECTIONS, layout(header), places(header), places(header)[1:], strict=False
    ):
        sections[name] = np.frombuffer(data, dtype, int(np.prod(shape)), at).reshape(shape).copy()
        assert not any(data[at + sections[name].nbytes : end])
    return header, sections


def pack(header, sections):
    """The file of `header` and sections, right or wrong, with right checksums."""
    body = b"".join(part.tobytes().ljust(pages(part.nbytes), b"\0") for part in sections.values())
    table = b"".join(struct.pack("<I", block_checksum(body[at : at + BLOCK])) for at in range(0, len(body), BLOCK))
    table = table.ljust(pages(len(table)), b"\0")
    head = HEADER.pack(*[{**header, "checksums_crc": crc32c(table)}[name] for name in FIELDS]).ljust(PAGE - 4, b"\0")
    return head + struct.pack("<I", crc32c(head)) + table + body


def random_rows(n, dim=DIM, seed=0):
    return l2_normalize(np.random.default_rng(seed).normal(size=(n, dim)).astype("f4"))


def make_index(rows=ROWS, m=M, removed=(3, 17), dim=DIM, precision="float16", twins=True):
    """Every tenth id. The last row repeats the one before it."""
    descriptors = random_rows(rows, dim)
    if twins and rows > 1:
        descriptors[-1] = descriptors[-2]
    index = PlaceIndex(dim, precision=precision)
    index.add(np.arange(rows) * 10, descriptors)
    if m:
        index.build_graph(m=m, ef_construction=9 * m)
    index.remove(np.array(removed, int) * 10)
    return index


def saved(path, index):
    index.save(str(path), contract=CONTRACT, state=STATE)
    return path.read_bytes()


def load(path, data=None, dim=DIM, contract=CONTRACT, **kwargs):
    if data is not None:
        path.write_bytes(data)
    return PlaceIndex.load(str(path), dim=dim, contract=contract, **kwargs)


def flipped(data, at, bit=4):
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def same(index, other, queries, k=7):
    for method in METHODS[: 2 + index.has_graph]:
        for answer, expected in zip(
            index.search(queries, k, method=method), other.search(queries, k, method=method), strict=True
        ):
            np.testing.assert_array_equal(answer, expected)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "campus.places.index"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("good") / "index", make_index())


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """An index of many blocks, and its file."""
    index = make_index(3000, m=8, dim=64)
    return index, saved(tmp_path_factory.mktemp("large") / "index", index)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rows", [0, 1, 31, 32, 40, 2100])
@pytest.mark.parametrize("m", [0, M, 9])
@pytest.mark.parametrize("removed", [(), (0,)])
def test_a_loaded_index_is_the_saved_one(path, rows, m, removed, precision):
    index = make_index(rows, m, removed[:rows], precision=precision)
    data = saved(path, index)
    loaded, state = load(path)
    assert state == STATE
    for name in ("dim", "removed", "last_id", "has_graph", "precision"):
        assert getattr(loaded, name) == getattr(index, name)
    assert len(loaded) == len(index)
    queries = random_rows(50, seed=1)
    same(loaded, index, queries)
    loaded.verify()
    assert saved(path.with_name("again"), loaded) == data
    loaded.add([987654], queries[0])
    assert loaded.search(queries[0], 1)[0].tolist() == [987654]
    assert len(loaded.search(queries[0], 9999)[0]) == len(loaded)


@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_any_instruction_set_may_read_a_file(path, large, instruction_set):
    index, data = large
    loaded, _ = load(path, data, dim=64, instruction_set=instruction_set)
    assert loaded.instruction_set == instruction_set
    same(loaded, index, random_rows(20, 64, seed=1))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("count", [16200, 16384, 16399])
def test_a_loaded_index_grows_as_if_it_had_never_been_a_file(path, precision, count):
    # Columns have chunks of 16384 rows. The last mapped chunk must be copied to get room.
    rows, queries = random_rows(count + 600, 8), random_rows(20, 8, seed=1)
    kept = PlaceIndex(8, precision=precision)
    kept.add(np.arange(count), rows[:count])
    kept.build_graph(m=2, ef_construction=4)
    kept.remove([5, count - 1])
    data = saved(path, kept)
    loaded, _ = load(path, dim=8)
    for index in (kept, loaded):
        index.add(np.arange(count, count + 300), rows[count : count + 300])
        index.remove([6, count - 2, count + 7])
        for i in range(count + 300, count + 310):
            index.add([i], rows[i])
    same(loaded, kept, queries)
    assert loaded.search(rows[count + 20], 1, exact=True)[0].tolist() == [count + 20]
    assert saved(path.with_name("loaded"), loaded) == saved(path.with_name("kept"), kept)
    assert path.read_bytes() == data
    for index in (kept, loaded):
        index.build_graph(m=3, ef_construction=5)
        index.add(np.arange(count + 310, count + 600), rows[count + 310 :])
    same(loaded, kept, queries)
    assert saved(path.with_name("loaded"), loaded) == saved(path.with_name("kept"), kept)


def test_a_loaded_graph_grows(path):
    saved(path, make_index(rows=1000, m=16, removed=(), dim=64))
    loaded, _ = load(path, dim=64)
    rows = random_rows(500, 64, seed=2)
    loaded.add(np.arange(500) + 50000, rows)
    assert (loaded.search(rows, 1, method="graph")[0][:, 0] == np.arange(500) + 50000).mean() > 0.95
    found, expected = (loaded.search(rows, 3, **how)[0] for how in ({"ef": 1500, "method": "graph"}, {"exact": True}))
    assert (found == expected).mean() >= 0.99


def test_two_loads_of_one_file_do_not_see_each_other(path, large):
    index, data = large
    first, second = load(path, data, dim=64)[0], load(path, dim=64)[0]
    first.remove(np.arange(100, 200) * 10)
    first.add(np.arange(100000, 100500), random_rows(500, 64, seed=4))
    first.build_graph(m=4, ef_construction=8)
    queries = random_rows(20, 64, seed=1)
    same(second, index, queries)
    second.verify()
    assert path.read_bytes() == data
    third, _ = load(path, dim=64)
    same(third, index, queries)
    assert (len(first), len(second), len(third)) == (3398, 2998, 2998)


def test_an_index_may_be_saved_over_the_file_it_came_from(path, large):
    index, data = large
    loaded, _ = load(path, data, dim=64)
    queries = random_rows(20, 64, seed=1)
    before = loaded.search(queries[:2], 3)
    assert saved(path, loaded) == data
    np.testing.assert_array_equal(loaded.search(queries[:2], 3), before)
    same(loaded, index, queries)
    loaded.remove([40, 50])
    loaded.add([90000], queries[0])
    saved(path, loaded)
    again, _ = load(path, dim=64)
    same(again, loaded, queries)
    assert (len(again), again.last_id) == (2997, 90000)
    path.unlink()
    same(again, loaded, queries)  # an unlinked file stays mapped


def test_the_file_is_as_documented(good):
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720, B.4
    header, sections = parse(good)
    assert header["magic"] == b"VPRINDEX"
    assert header["version"] == INDEX_FILE_VERSION == 2
    assert (header["dim"], header["rows"], header["metric"], header["precision"]) == (DIM, ROWS, 0, 0)
    assert (header["contract"], header["state"]) == (CONTRACT, STATE)
    assert (header["m"], header["ef_construction"]) == (M, 9 * M)
    assert pack(header, sections) == good  # all checksums

    np.testing.assert_array_equal(sections["ids"], np.arange(ROWS) * 10)
    assert np.flatnonzero(sections["removed"]).tolist() == [3, 17]
    rows = sections["values"]
    expected = random_rows(ROWS).astype("f2")
    np.testing.assert_array_equal(rows[:-1, :DIM], expected[:-1])
    assert not rows[:, DIM:].any()
    assert sections["twins"].tolist() == [[38, 39]]

    links, upper, levels = sections["links"], sections["upper nodes"], sections["upper nodes"][:, 1]
    assert ((links < ROWS) | (links == NONE)).all()
    assert (links[:39, 0] < ROWS).all()
    assert (np.diff((links == NONE).astype(int), axis=1) >= 0).all()  # only NONE after the first NONE
    assert not (links == np.arange(ROWS)[:, None]).any()
    assert len(set(upper[:, 0].tolist())) == len(upper) > 0
    np.testing.assert_array_equal(upper[:, 2], np.cumsum(levels) - levels)
    assert levels.sum() == header["upper_lists"]
    assert levels[header["entry"]] == levels.max()
    for _, count, first in upper:
        for level in range(count):
            found = sections["upper links"][first + level]
            assert all(link == NONE or levels[link] > level for link in found)


@pytest.mark.parametrize("dim", [5, 128, 300])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_codes_bounds_and_sketches_are_as_documented(path, dim, precision):
    rows = l2_normalize(random_rows(100, dim) + np.float32(0.3))
    index = PlaceIndex(dim, precision=precision)
    index.add(np.arange(100), rows)
    header, sections = parse(saved(path, index))
    middle, spread = sections["middle"].astype("f8"), header["spread"]
    off = rows - middle
    if precision == "int8":  # it needs 1024 rows for its middle, because it cannot change it later
        assert not middle.any()
        assert spread == 1
    else:
        np.testing.assert_allclose(middle, rows.mean(axis=0, dtype="f8"), atol=1e-6)
        usual, far = np.sqrt((off**2).sum(axis=1).mean()), np.sort(np.sqrt((off**2).sum(axis=1)))[-2]
        assert spread == pytest.approx(max(usual, far / 2), rel=1e-5)
    stored = sections["values"][:, :dim].astype("f8") - middle if precision != "int8" else off
    distances = np.sqrt((stored**2).sum(axis=1))
    # int8 rows have only codes, and rounding may make these longer.
    assert (
        distances.max() <= header["farthest"] * (1 + 1e-6) < distances.max() * (1.016 if precision == "int8" else 1.001)
    )

    def nibbles(planes):
        lines = planes.reshape(100, -1, 64)
        return np.concatenate([lines & 15, lines >> 4], axis=2).reshape(100, -1).astype(int)

    high, low = nibbles(sections["upper planes"]), nibbles(sections["lower planes"])
    codes = 16 * high + low - 128
    assert np.abs(codes).max() <= 127
    step = 4 * spread / (127 * np.sqrt(codes.shape[1]))
    error = np.abs(codes @ codes.T * step**2 - off @ off.T)
    assert np.median(error) < 0.003 * spread**2 * 128 / min(dim, 128)
    # Bounds of the error of a code: no product of two rows may err by more than both bounds allow.
    high_codes = 16 * high + 7.5 - 128
    for codes_of, bounds, unit in ((codes, "bounds", 8192), (high_codes, "high bounds", 1024)):
        bound = sections[bounds].astype("f8") / unit * spread
        bounded = sections[bounds] < 255
        if precision == "int8" and bounds == "bounds":
            assert not sections[bounds].any()
            continue
        assert bounded.mean() > 0.5
        lengths = np.sqrt((codes_of**2).sum(axis=1)) * step
        truth = distances if precision != "int8" else np.sqrt((codes**2).sum(axis=1)) * step
        assert (np.abs(lengths - truth) <= bound + 1e-5)[bounded].all()
    if precision == "int8":
        assert sections["sketches"].size == sections["values"].size == 0
        return
    signs = (codes >= 0)[:, :256].reshape(100, -1, 4) @ [1, 2, 4, 8]
    for row in range(100):
        block = sections["sketches"][row // 32]
        np.testing.assert_array_equal(block[:, row % 16] >> (0 if row % 32 < 16 else 4) & 15, signs[row])


@pytest.mark.parametrize("precision", [0, 1])
def test_a_file_written_by_the_documentation_can_be_read(path, precision):
    header = dict.fromkeys(FIELDS, 0)
    header.update(magic=b"VPRINDEX", version=2, dim=DIM, precision=precision, rows=3, contract=CONTRACT, state=STATE)
    header.update(entry=NONE, spread=1.0, farthest=1.0, file_bytes=int(places(header)[-1]))
    sections = {name: np.zeros(shape, dtype) for name, (dtype, shape) in zip(SECTIONS, layout(header), strict=True)}
    sections["ids"][:] = [30, 10, 20]
    sections["removed"][1] = 1
    sections["values"][:, :DIM] = np.eye(3, DIM)
    sections["high bounds"][:] = sections["bounds"][:] = 255  # the codes are unbounded
    index, state = load(path, pack(header, sections))
    ids, similarities = index.search(np.eye(3, DIM, dtype="f4"), 2, exact=True)
    assert (len(index), index.removed, index.last_id, state) == (2, 1, 30, STATE)
    assert index.precision == PRECISIONS[precision]
    assert ids.tolist() == [[30, 20], [20, 30], [20, 30]]
    assert similarities.tolist() == [[1, 0], [0, 0], [1, 0]]


def with_field(name, value):
    return lambda data: pack({**parse(data)[0], name: value}, parse(data)[1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "has 0 bytes, expected at least 12"),
        (lambda data: data[: PAGE - 1], "has 4095 bytes, expected at least 4096"),
        (lambda data: data[:-1], r"has \d+ bytes, expected \d+ for its 40 rows"),
        (lambda data: data + b"\0", r"has \d+ bytes, expected \d+ for its 40 rows"),
        (lambda data: data + bytes(PAGE), r"has \d+ bytes, expected \d+ for its 40 rows"),
        (lambda data: b"SQLite format 3\0" + data[16:], "is not an index file"),
        (lambda data: data[:8] + struct.pack("<I", 1) + data[12:], "has version 1, this structvpr reads version 2"),
        (lambda data: flipped(data, 64), "has a damaged header"),
        (lambda data: flipped(data, 2000), "has a damaged header"),
        (lambda data: flipped(data, PAGE - 1), "has a damaged header"),
        (lambda data: flipped(data, PAGE), "has damaged checksums"),
        (lambda data: flipped(data, PAGE + 2000), "has damaged checksums"),
        (lambda data: flipped(data, 2 * PAGE), "is damaged in block 0 of 64 KiB"),
        (lambda data: flipped(data, 3 * PAGE - 1), "is damaged in block 0 of 64 KiB"),  # a byte between sections
        (lambda data: flipped(data, len(data) - 1), "is damaged in block 0 of 64 KiB"),
        (with_field("version", 0), "has version 0, this structvpr reads version 2"),
        (with_field("version", 3), "has version 3, this structvpr reads version 2"),
    ],
)
def test_a_damaged_file_is_named_and_described(path, good, damage, message):
    with pytest.raises(IndexFileError, match=f"{path}: {message}"):
        load(path, damage(good))


def test_a_file_of_the_version_before_is_named_as_such(path):
    header = struct.pack("<8sIIQQ32s32sIIiIQ6I44sI", b"VPRINDEX", 1, DIM, 300, 9492, CONTRACT, STATE, *[0] * 11, b"", 7)
    with pytest.raises(IndexFileError, match=f"{path}: has version 1, this structvpr reads version 2"):
        load(path, header + bytes(9300))


def test_a_file_for_something_else_is_refused(path, good):
    path.write_bytes(good)
    with pytest.raises(IndexFileError, match="holds descriptors of 5 dimensions, expected 6"):
        load(path, dim=6)
    with pytest.raises(IndexFileError, match="was made with another model"):
        load(path, contract=bytes(32))
    with pytest.raises(ValueError, match="contract has 31 bytes, expected 32"):
        load(path, contract=bytes(31))
    for missing in (path.with_name("absent"), path / "below a file", path.parent):
        with pytest.raises(IndexFileError, match=f"{missing}: (cannot be opened: |is not a file)"):
            load(missing)


def test_no_flipped_bit_is_believed(path, good):
    rng = np.random.default_rng(5)
    for bit in [*rng.choice(PAGE * 8, 100, replace=False), *rng.choice(len(good) * 8, 400, replace=False)]:
        with pytest.raises(IndexFileError):
            load(path, flipped(good, bit // 8, bit % 8))


@pytest.mark.parametrize("field", FIELDS)
def test_every_byte_of_the_header_counts(path, good, field):
    sizes = [struct.calcsize("<" + code) for code in ["8s", *"IIIIQQ", "32s", "32s", *"IIIIIIffI"]]
    start = sum(sizes[: FIELDS.index(field)])
    for at in range(start, start + sizes[FIELDS.index(field)]):
        with pytest.raises(IndexFileError):
            load(path, flipped(good, at, at % 8))


def test_a_cut_at_any_page_is_found(path, good, large):
    for data, dim in ((good, DIM), (large[1], 64)):
        for end in range(0, len(data), PAGE):
            with pytest.raises(IndexFileError, match=f"has {end} bytes, expected "):
                load(path, data[:end], dim=dim)
    header, _ = parse(good)
    for end in range(PAGE, len(good), PAGE):  # and the header agrees
        head = HEADER.pack(*[{**header, "file_bytes": end}[name] for name in FIELDS]).ljust(PAGE - 4, b"\0")
        with pytest.raises(IndexFileError, match=f"has {end} bytes, expected {len(good)}"):
            load(path, (head + struct.pack("<I", crc32c(head)) + good[PAGE:])[:end])


@pytest.mark.parametrize("section", [name for name in SECTIONS if name not in LAZY])
def test_damage_of_what_tells_where_to_read_is_found_at_once(path, large, section):
    _, data = large
    starts = places(parse(data)[0])
    at = (starts[SECTIONS.index(section)] + starts[SECTIONS.index(section) + 1]) // 2
    with pytest.raises(IndexFileError, match=f"is damaged in block {(at - starts[0]) // BLOCK} of 64 KiB$"):
        load(path, flipped(data, at), dim=64)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("section", LAZY)
def test_damage_of_the_rest_is_found_before_it_is_believed(path, large, section, share):
    index, data = large
    header, sections = parse(data)
    starts, at = places(header), SECTIONS.index(section)
    size = sections[section].nbytes
    bad = flipped(data, starts[at] + int(size * share))
    row = min(int(ROWS_OF_LARGE * share), 2997)
    near = sections["values"][row : row + 1, :64].astype("f4")
    queries = np.concatenate([l2_normalize(near), random_rows(10, 64, seed=3)])
    message = f"{path}: is damaged in block {(int(starts[at] + size * share) - starts[0]) // BLOCK} of 64 KiB"
    path.write_bytes(bad)
    if starts[at] + int(size * share) < starts[0] + pages_of_blocks(starts[SECTIONS.index(LAZY[0])] - starts[0]):
        with pytest.raises(IndexFileError, match=f"^{message}$"):  # its block is checked on opening
            load(path, dim=64)
        return
    raised = set()
    for method in METHODS:
        loaded, _ = load(path, dim=64)
        for query in queries:
            expected = index.search(query, 5, method=method)
            for search in (loaded.search, loaded.cursor().search):
                try:
                    answer = search(query, 5, method=method)
                except IndexFileError as error:
                    raised.add((method, str(error)))
                else:
                    np.testing.assert_array_equal(answer, expected)
    assert {text for _, text in raised} <= {message}
    assert {method for method, _ in raised} >= {
        "high bounds": {"scan"},
        "bounds": set(),
        "upper planes": {"scan"},
        "lower planes": set(),
        "values": {"scan", "sketch", "graph"},
        "sketches": {"sketch"},
    }[section]
    loaded, _ = load(path, dim=64)
    for use in (
        lambda: loaded.add([1], queries[0]),
        lambda: loaded.remove([0]),
        lambda: loaded.build_graph(),
        lambda: loaded.verify(),
        lambda: loaded.save(str(path.with_name("copy")), contract=CONTRACT, state=STATE),
        lambda: loaded.save(str(path), contract=CONTRACT, state=STATE),
    ):
        for _ in range(2):  # a second search must fail as well
            with pytest.raises(IndexFileError) as caught:
                use()
            assert str(caught.value) == message
    assert (len(loaded), loaded.removed, loaded.has_graph) == (2998, 2, True)
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == bad


ROWS_OF_LARGE = 3000

# Fields of the header, or places in a section, and the wrong values put there. Names stand for numbers that depend on
# the graph: see `meant` below.
LIES = {
    "link out of range": ({("links", 7, 1): ROWS}, "link to a row that is not there"),
    "link far out of range": ({("links", 39, 15): NONE - 1}, "link to a row that is not there"),
    "upper link out of range": ({("upper links", 0, 0): "upper nodes"}, "link to a row that is not on its level"),
    "upper link to a low node": ({("upper links", "list of level 2", 0): "low node"}, "row that is not on its level"),
    "upper node out of range": ({("upper nodes", 0, 0): ROWS}, "upper node that is not a row's, or not where"),
    "upper node of no level": ({("upper nodes", 0, 1): 0}, "upper node that is not a row's, or not where"),
    "upper node of many levels": ({("upper nodes", -1, 1): 32}, "upper node that is not a row's, or not where"),
    "upper node elsewhere": ({("upper nodes", 1, 2): 0}, "upper node that is not a row's, or not where"),
    "upper node twice": ({("upper nodes", 1, 0): "row of node 0"}, "has an? "),
    "one upper node more": ({"upper_nodes": "one node more"}, "upper node that is not a row's, or not where"),
    "one upper node less": ({"upper_nodes": "one node less"}, "has a "),
    "one upper list more": ({"upper_lists": "one list more"}, "graph of the wrong size"),
    "entry out of range": ({"entry": ROWS}, "graph without a valid entry"),
    "no entry": ({"entry": NONE}, "graph without a valid entry"),
    "entry below the top": ({"entry": "low node"}, "graph without a valid entry"),
    "twin out of range": ({("twins", 0, 1): ROWS}, "has a twin that is not a row"),
    "twin of nothing": ({("twins", 0, 0): NONE}, "has a twin that is not a row"),
    "twin of itself": ({("twins", 0, 0): 39}, "has a twin"),
    "twin that is linked": ({("twins", 0, 1): 0}, "has a twin"),
    "m too small": ({"m": 1}, "graph with m 1 and"),
    "m too large": ({"m": 129}, "graph with m 129 and"),
    "m far too large": ({"m": NONE}, f"graph with m {NONE} and"),
    "no m": ({"m": 0}, "graph with m 0 and ef_construction 18"),
    "no graph and its parts": ({"m": 0, "ef_construction": 0}, "bytes, expected a possible number"),
    "no effort": ({"ef_construction": 1}, "m 2 and ef_construction 1, expected 2 to 128 and m to 4096"),
    "no effort at all": ({"ef_construction": 0}, "m 2 and ef_construction 0, expected"),
    "boundless effort": ({"ef_construction": NONE}, f"m 2 and ef_construction {NONE}, expected"),
    "an id twice": ({("ids", 5): 60}, "holds place id 60 twice"),
    "a negative id": ({("ids", 5): -1}, "holds place id -1 twice or negative"),
    "the first id negative": ({("ids", 0): -(2**63)}, f"holds place id -{2**63} twice or negative"),
    "neither there nor removed": ({("removed", 5): 2}, "row that is neither there nor removed"),
    "another metric": ({"metric": 1}, "metric 1 and precision 0, expected 0 and 0 to 2"),
    "another precision": ({"precision": 3}, "metric 0 and precision 3, expected 0 and 0 to 2"),
    "a precision of another size": ({"precision": 2}, "bytes, expected"),
    **{
        f"{name} {value}": ({name: value}, "middle of its descriptors that unit vectors cannot have")
        for name in ("spread", "farthest")
        for value in (float("nan"), float("inf"), -1.0, 3.0, 1e30)
    },
    "no spread": ({"spread": 0.0}, "middle of its descriptors that"),
    **{
        f"middle {value}": ({("middle", 2): value}, "middle of its descriptors that unit vectors cannot have")
        for value in (float("nan"), float("inf"), -1.2, 1e38)
    },
    **{
        f"{name} {value}": ({name: value}, "has a|bytes, expected")
        for name in ("upper_nodes", "upper_lists", "twins")
        for value in (2**31, NONE)
    },
    **{
        f"{rows} rows": ({"rows": rows}, f"bytes, expected .* its {rows} rows")
        for rows in (0, 2**28, 2**31 - 2, 2**31, 2**32, 2**40, 2**61, 2**63 + ROWS, 2**64 - 1)
    },
    "one row less": ({"rows": ROWS - 1}, "has a "),
    "one row more": ({"rows": ROWS + 1}, "holds place id 0 twice|has a "),
}


@pytest.mark.parametrize(("lies", "message"), LIES.values(), ids=LIES.keys())
def test_a_lie_with_right_checksums_is_refused(path, good, lies, message):
    header, sections = parse(good)
    upper = sections["upper nodes"]
    meant = {
        "upper nodes": len(upper),
        "low node": int(np.flatnonzero(upper[:, 1] == 1)[0]),
        "list of level 2": int(upper[np.flatnonzero(upper[:, 1] > 1)[0], 2]) + 1,
        "row of node 0": int(upper[0, 0]),
        "one node more": len(upper) + 1,
        "one node less": len(upper) - 1,
        "one list more": header["upper_lists"] + 1,
    }
    for place, lie in lies.items():
        if place in header:
            header[place] = meant.get(lie, lie)
        else:
            sections[place[0]][tuple(meant.get(at, at) for at in place[1:])] = meant.get(lie, lie)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(IndexFileError, match=message):
        load(path, pack(header, sections))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB: 2**28 ids would take 2 GiB


def test_a_row_may_not_be_a_twin_twice(path, good):
    header, sections = parse(good)
    sections["twins"] = np.array([[38, 39], [38, 39]], "<u4")
    header["twins"] = 2
    with pytest.raises(IndexFileError, match="has a twin"):
        load(path, pack(header, sections))


def test_a_graph_without_rows_may_not_have_an_entry(path):
    header, sections = parse(saved(path, make_index(rows=0, removed=())))
    assert header["entry"] == NONE
    with pytest.raises(IndexFileError, match="without a valid entry"):
        load(path, pack({**header, "entry": 0}, sections))


def test_a_removed_row_may_share_the_id_of_another(path):
    index = make_index()
    index.add([30], random_rows(1, seed=9)[0])
    saved(path, index)
    loaded, _ = load(path)
    same(loaded, index, random_rows(10, seed=1), k=39)
    with pytest.raises(ValueError, match="place id 30 is in the index already"):
        loaded.add([30], random_rows(1)[0])


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(path):
    old = saved(path, make_index())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (2000, PAGE, 20000, 400000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))  # like a full disk; Python ignores SIGXFSZ
        try:
            with pytest.raises(IndexFileError, match="cannot be written: File too large"):
                saved(path, make_index(rows=5000, m=0))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == old
        assert list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_hold_a_file_is_refused(path):
    with pytest.raises(IndexFileError, match=r"absent/index\.tmp-.*: cannot be opened: No such file or directory"):
        saved(path.parent / "absent" / "index", make_index())
    path.mkdir()
    with pytest.raises(IndexFileError, match=f"{path}: cannot be replaced: it is not a file"):
        saved(path, make_index())
    assert list(path.parent.iterdir()) == [path]


def test_descriptors_that_no_unit_vector_has_do_not_become_the_middle(path):
    # A crafted file may hold any values. A file that is saved after an add must be readable nevertheless.
    index = make_index(rows=250, m=0, removed=())
    header, sections = parse(saved(path, index))
    sections["values"][:] = np.float16(30000)
    loaded, _ = load(path, pack(header, sections))
    more = l2_normalize(np.random.default_rng(7).normal(size=(10, DIM)).astype("f4"))
    loaded.add(np.arange(10**6, 10**6 + 10), more)
    saved(path, loaded)
    assert len(load(path)[0]) == 260
