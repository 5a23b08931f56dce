from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
import torch

from sdk import DataError, FrameError, UsageError
from training.labels.label_png import encode_palette_png, palette_of, read_label_map
from training.labels.label_sets import CLUSTERS, LABEL_SETS
from training.labels.segmentation import (
    CLUSTER_WEIGHTS,
    cluster_label_map,
    confidence_of,
    encode_label_map,
    find_label_set,
)
from training.world import LABELS

BUILDING, DYNAMIC, SKY, GROUND, VEGETATION, OTHER = range(6)

# --- tables ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "classes", "first", "void", "per_cluster"),
    [
        ("cityscapes19", 19, 0, 255, [6, 8, 1, 2, 2, 0]),
        ("camvid11", 11, 0, 11, [4, 3, 1, 2, 1, 0]),
        ("ade20k150", 150, 0, 255, [31, 11, 1, 14, 6, 87]),
        ("ade20k150_png", 150, 1, 0, [31, 11, 1, 14, 6, 87]),
    ],
)
def test_each_table_is_complete(name, classes, first, void, per_cluster):
    table = LABEL_SETS[name]
    assert table.name == name
    assert len(table.classes) == len(set(table.classes)) == len(table.clusters) == len(table.palette) == classes
    assert list(table.ids) == list(range(first, first + classes))
    assert table.void == void
    assert void not in table.ids
    assert np.bincount(table.clusters, minlength=6).tolist() == per_cluster
    assert all(0 <= value <= 255 for colour in table.palette for value in colour)


def test_clusters_and_their_order_are_the_papers():
    assert CLUSTERS == ("building", "dynamic", "sky", "ground", "vegetation", "other")
    assert CLUSTER_WEIGHTS == (2.0, 0.5, 1.0, 1.0, 1.0, 1.0)


def test_cityscapes_has_the_worlds_train_ids():
    assert {name: i for i, name in enumerate(LABEL_SETS["cityscapes19"].classes)} == LABELS


# Lines of objectInfo150.txt, whose index begins at 1; colours as the authors' poster shows them.
@pytest.mark.parametrize(
    ("index", "name", "cluster", "colour"),
    [
        (1, "wall", BUILDING, (120, 120, 120)),
        (2, "building", BUILDING, (180, 120, 120)),
        (3, "sky", SKY, (6, 230, 230)),
        (4, "floor", GROUND, (80, 50, 50)),
        (5, "tree", VEGETATION, (4, 200, 3)),
        (6, "ceiling", OTHER, (120, 120, 80)),
        (7, "road", GROUND, (140, 140, 140)),
        (12, "sidewalk", GROUND, (235, 255, 7)),
        (13, "person", DYNAMIC, (150, 5, 61)),
        (21, "car", DYNAMIC, (0, 102, 200)),
        (49, "skyscraper", BUILDING, (140, 140, 140)),
        (62, "bridge", BUILDING, (255, 82, 0)),
        (81, "bus", DYNAMIC, (255, 0, 245)),
        (117, "minibike", DYNAMIC, (163, 0, 255)),
        (137, "traffic light", BUILDING, (41, 0, 255)),
        (150, "flag", BUILDING, (92, 0, 255)),
    ],
)
def test_ade20k_is_in_the_order_of_its_publisher(index, name, cluster, colour):
    for table in (LABEL_SETS["ade20k150"], LABEL_SETS["ade20k150_png"]):
        at = index - 1
        assert (table.classes[at], table.clusters[at]) == (name, cluster)
    pngs_own, networks = LABEL_SETS["ade20k150_png"], LABEL_SETS["ade20k150"]
    assert palette_of(pngs_own)[index] == palette_of(networks)[index - 1]
    assert networks.palette[index - 1] == colour


@pytest.mark.parametrize("name", LABEL_SETS)
def test_clustering_is_the_table_and_void_is_void(name):
    table = LABEL_SETS[name]
    ids = np.array([*table.ids, table.void], np.uint8)
    labels = np.random.default_rng(0).choice(ids, (2, 3, 5, 7))
    clusters = cluster_label_map(labels, name)
    assert clusters.dtype == np.uint8
    by_hand = {**dict(zip(table.ids, table.clusters, strict=True)), table.void: 255}
    np.testing.assert_array_equal(clusters, np.vectorize(by_hand.get)(labels))
    np.testing.assert_array_equal(clusters, cluster_label_map(labels, table))


def test_an_unknown_id_is_named_with_the_file_and_what_was_expected():
    labels = np.array([[0, 19], [33, 255]], np.uint8)
    expected = r"a/7\.png: label id 19, 33 found, expected 0 to 18 or 255 \(void\) as in cityscapes19; name"
    with pytest.raises(FrameError, match=expected):
        cluster_label_map(labels, "cityscapes19", "a/7.png")
    with pytest.raises(FrameError, match=r"255 found, expected 1 to 150 or 0 \(void\)"):
        cluster_label_map(labels, "ade20k150_png")
    with pytest.raises(FrameError, match="labels are int64, expected uint8"):
        cluster_label_map(labels.astype(np.int64), "cityscapes19")
    with pytest.raises(DataError, match="label set 'coco' found, expected one of cityscapes19, camvid11"):
        find_label_set("coco")


# --- encoding -------------------------------------------------------------------------------------------


def one_hot(clusters, weights):
    channels = np.vstack([np.eye(6, dtype=np.float32) * np.float32(weights), np.zeros((1, 6), np.float32)])
    return channels[np.where(clusters == 255, 6, clusters)].transpose(0, 3, 1, 2)


@pytest.mark.parametrize("weights", [CLUSTER_WEIGHTS, (1.0,) * 6, (0.3, 0.0, 4.0, 1.5, 0.1, 7.0)])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_encoding_is_a_weighted_one_hot(weights, device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    clusters = np.random.default_rng(1).choice(np.array([0, 1, 2, 3, 4, 5, 255], np.uint8), (3, 8, 9))
    channels = encode_label_map(torch.from_numpy(clusters).to(device), weights)
    assert channels.dtype == torch.float32
    assert channels.device.type == device
    np.testing.assert_array_equal(channels.cpu().numpy(), one_hot(clusters, weights))


def test_void_is_zero_in_every_channel_and_other_is_not():
    channels = encode_label_map(torch.tensor([[[255, OTHER]]], dtype=torch.uint8))
    assert channels[0, :, 0, 0].tolist() == [0.0] * 6
    assert channels[0, :, 0, 1].tolist() == [0.0] * 5 + [1.0]


def test_what_is_not_clusters_or_weights_is_refused():
    clusters = torch.zeros((1, 2, 2), dtype=torch.uint8)
    with pytest.raises(FrameError, match=r"cluster id 18 found, expected 0 to 5 or 255 \(void\); pass label maps"):
        encode_label_map(clusters + 18)
    with pytest.raises(FrameError, match=r"are int64 \(1, 2, 2\), expected uint8 \(N, h, w\)"):
        encode_label_map(clusters.long())
    with pytest.raises(FrameError, match=r"are uint8 \(2, 2\), expected"):
        encode_label_map(clusters[0])
    for weights in ((1.0,) * 5, (1.0,) * 5 + (-1.0,), (1.0,) * 5 + (float("nan"),)):
        with pytest.raises(UsageError, match="expected 6 finite numbers >= 0, for building, dynamic"):
            encode_label_map(clusters, weights)


# --- files ----------------------------------------------------------------------------------------------


def make_png(samples, bits, colour_type, palette=b"", filtered=False):
    """A PNG by other means than ours: packed samples, each row with the Sub filter where it is asked for."""
    height, width = samples.shape[:2]
    rows = b""
    for row in samples:
        if bits < 8:
            width = len(row)
            text = "".join(f"{value:0{bits}b}" for value in row).ljust(-(-width * bits // 8) * 8, "0")
            data = bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
        else:
            data = row.astype(">u2" if bits == 16 else np.uint8).tobytes()
        if filtered:
            data = bytes((value - before) % 256 for value, before in zip(data, b"\0" + data[:-1], strict=True))
        rows += bytes([int(filtered)]) + data
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    colours = [(b"PLTE", palette), (b"tRNS", b"\0\xff")] if palette else []
    chunks = [(b"IHDR", header), *colours, (b"tEXt", b"a\0b"), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("name", LABEL_SETS)
def test_palette_png_holds_the_indices_and_shows_the_colours(name, tmp_path):
    table = LABEL_SETS[name]
    labels = np.random.default_rng(2).choice(np.array([*table.ids, table.void], np.uint8), (37, 53))
    data = encode_palette_png(labels, palette_of(table))

    # By hand, after the specification: signature, IHDR, PLTE, one IDAT with unfiltered rows.
    assert struct.unpack(">IIBBBBB", data[16:29]) == (53, 37, 8, 3, 0, 0, 0)
    at = data.index(b"IDAT")
    rows = zlib.decompress(data[at + 4 : at + 4 + int.from_bytes(data[at - 4 : at], "big")])
    by_hand = np.frombuffer(rows, np.uint8).reshape(37, 54)
    assert not by_hand[:, 0].any()
    np.testing.assert_array_equal(by_hand[:, 1:], labels)

    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(shown, np.array(palette_of(table), np.uint8)[labels])
    (tmp_path / "a.png").write_bytes(data)
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png"), labels)


def test_classes_that_share_a_colour_stay_apart(tmp_path):
    table = LABEL_SETS["ade20k150"]
    road, skyscraper = 6, 48
    assert table.palette[road] == table.palette[skyscraper]
    labels = np.array([[road, skyscraper]], np.uint8)
    (tmp_path / "a.png").write_bytes(encode_palette_png(labels, palette_of(table)))
    assert read_label_map(tmp_path / "a.png").tolist() == [[road, skyscraper]]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", ["grey", "palette"])
@pytest.mark.parametrize("filtered", [False, True])
def test_pngs_of_others_are_read(bits, kind, filtered, tmp_path):
    samples = np.random.default_rng(bits).integers(0, 1 << bits, (11, 13))
    palette = (
        np.random.default_rng(0).integers(0, 256, 3 << bits, dtype=np.uint8).tobytes() if kind == "palette" else b""
    )
    (tmp_path / "a.png").write_bytes(make_png(samples, bits, 3 if palette else 0, palette, filtered))
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png"), samples)


def test_grey_png_of_opencv_is_read(tmp_path):
    labels = np.random.default_rng(5).integers(0, 12, (360, 480), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), labels)
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png"), labels)


def test_what_is_no_label_map_is_refused(tmp_path):
    path = tmp_path / "a.png"
    whole = encode_palette_png(np.zeros((9, 9), np.uint8), palette_of(LABEL_SETS["camvid11"]))
    for data in (b"", b"GIF89a", whole[:-1], whole[:60], whole.replace(b"IDAT", b"IDAX")):
        path.write_bytes(data)
        with pytest.raises(FrameError, match=r"a\.png: is (not a whole PNG|damaged)"):
            read_label_map(path)
    damaged = bytearray(whole)
    damaged[whole.index(b"IDAT") + 6] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(FrameError, match="not a whole PNG"):
        read_label_map(path)
    path.write_bytes(make_png(np.zeros((4, 12), np.uint8), 8, 2))
    with pytest.raises(FrameError, match="colour type 2 and 8 bits, expected a label map: grey or palette"):
        read_label_map(path)
    path.write_bytes(make_png(np.zeros((4, 4)), 16, 0))
    with pytest.raises(FrameError, match="colour type 0 and 16 bits"):
        read_label_map(path)
    header = struct.pack(">IIBBBBB", 1 << 16, 1 << 16, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    path.write_bytes(whole[:8] + chunk + whole[8 + len(chunk) :])
    with pytest.raises(FrameError, match="claims 65536 x 65536 px, expected at most"):
        read_label_map(path)
    with pytest.raises(FrameError, match=r"nothing\.png: cannot be read \(No such file"):
        read_label_map(tmp_path / "nothing.png")


# --- confidence -----------------------------------------------------------------------------------------


def test_confidence_is_the_mean_of_a_file_of_bytes_or_of_floats(tmp_path):
    confidence = np.random.default_rng(6).integers(0, 256, (20, 30), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.confidence.png"), confidence)
    expected = pytest.approx(confidence.astype(float).mean() / 255.0)
    assert confidence_of(tmp_path / "a.confidence.png") == expected
    assert confidence_of(str(tmp_path / "a.confidence.png")) == expected
    assert confidence_of(confidence) == expected
    assert confidence_of(confidence.astype(np.float32) / 255.0) == expected
    assert confidence_of(np.full((2, 2), 255, np.uint8)) == 1.0
    for wrong in (np.full((2, 2), 1.1), np.full((2, 2), np.nan), np.ones((2, 2), np.int64)):
        with pytest.raises(FrameError, match="expected uint8, or floats from 0 to 1"):
            confidence_of(wrong)
    with pytest.raises(FrameError, match="has no pixels"):
        confidence_of(np.zeros((0, 3), np.uint8))
