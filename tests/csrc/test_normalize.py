"""l2_normalize against numpy in float64."""

import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sdk._core import l2_normalize

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)  # including denormals and both zeros
MAGNITUDES = st.sampled_from([1e38, -1e38, 3.4028235e38, 1.0, -1.0, 1e-20, 1e-38, -1e-38, 1e-42, 1.4e-45, 0.0])
SHAPES = st.one_of(st.tuples(st.integers(1, 70)), st.tuples(st.integers(1, 5), st.integers(1, 70)))


def reference(rows):
    rows = rows.astype(np.float64)
    return (rows / np.sqrt((rows * rows).sum(axis=-1, keepdims=True))).astype(np.float32)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(hnp.arrays(np.float32, SHAPES, elements=st.one_of(FINITE, MAGNITUDES.map(np.float32).map(float))))
def test_agrees_with_numpy(rows):
    rows[..., 0] = np.where(rows.any(axis=-1), rows[..., 0], np.float32(1.4e-45))  # no zero row
    before = rows.tobytes()
    result = l2_normalize(rows)
    assert result.shape == rows.shape
    assert result.dtype == np.float32
    assert rows.tobytes() == before
    np.testing.assert_array_max_ulp(result, reference(rows), maxulp=1)


@pytest.mark.parametrize("dim", [1, 3, 15, 16, 17, 472])
@pytest.mark.parametrize("magnitude", [3.4e38, 1e38, 1.0, 1e-38, 1e-42, 1.4e-45])
def test_no_magnitude_overflows_or_vanishes(dim, magnitude):
    rows = np.full((2, dim), magnitude, np.float32)
    np.testing.assert_allclose(l2_normalize(rows), 1 / np.sqrt(dim), rtol=1e-6)


def misaligned(rows):
    return np.frombuffer(b"\0" + rows.tobytes(), np.float32, offset=1).reshape(rows.shape)


VIEWS = {
    "every other column": lambda rows: rows[:, ::2],
    "backwards": lambda rows: rows[::-1, ::-1],
    "transposed": lambda rows: rows.T,
    "column by column": np.asfortranarray,
    "one column": lambda rows: rows[:, 3],
    "broadcast": lambda rows: np.broadcast_to(rows[0], (4, rows.shape[1])),
    "misaligned": misaligned,
    "pickled": lambda rows: pickle.loads(pickle.dumps(rows)),  # an equal dtype, but another object
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_any_memory_layout_is_read_right(view):
    rows = view(np.random.default_rng(1).normal(size=(6, 37)).astype(np.float32))
    np.testing.assert_array_max_ulp(l2_normalize(rows), reference(rows), maxulp=1)


def peak_bytes(function, argument):
    """The most memory that numpy held during `function(argument)`. numpy reports it to tracemalloc."""
    tracemalloc.start()
    function(argument)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_contiguous_rows_are_not_copied():
    rows = np.ones((1000, 512), np.float32)
    assert peak_bytes(l2_normalize, rows) < 1.1 * rows.nbytes  # the result
    assert peak_bytes(l2_normalize, rows[::-1]) > 1.9 * rows.nbytes  # the result and a copy, so copies are measured


def test_a_read_only_array_will_do():
    rows = np.ones((2, 4), np.float32)
    rows.flags.writeable = False
    np.testing.assert_array_equal(l2_normalize(rows), 0.5)


def test_no_rows_give_no_rows():
    assert l2_normalize(np.empty((0, 7), np.float32)).shape == (0, 7)


@pytest.mark.parametrize(
    ("value", "message"),
    [(0.0, "row 2 is all zeros"), (np.nan, "row 2 has a value that is not finite"), (np.inf, "row 2 .* not finite")],
)
@pytest.mark.parametrize("dim", [16, 19])
def test_a_row_without_direction_is_refused_by_its_number(value, message, dim):
    rows = np.ones((4, dim), np.float32)
    rows[2] = value
    with pytest.raises(ValueError, match=message):
        l2_normalize(rows)


@pytest.mark.parametrize("column", range(18))
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_one_bad_value_is_seen_in_every_column(column, value):
    row = np.ones(18, np.float32)
    row[column] = value
    with pytest.raises(ValueError, match="row 0 has a value that is not finite"):
        l2_normalize(row)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones((2, 4)), "dtype float64, expected float32"),
        (np.ones((2, 4), np.float16), "dtype float16, expected float32"),
        (np.ones((2, 4), ">f4"), "dtype >f4, expected float32"),
        ([[1.0, 2.0]], "is a list, expected a numpy array of float32"),
        (None, "is a NoneType, expected a numpy array of float32"),
    ],
)
def test_another_type_is_refused(rows, message):
    with pytest.raises(TypeError, match=message):
        l2_normalize(rows)


@pytest.mark.parametrize("shape", [(2, 3, 4), (), (3, 0), (0,)])
def test_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"has shape .*expected") as refusal:
        l2_normalize(np.ones(shape, np.float32))
    assert str(shape) in str(refusal.value)
