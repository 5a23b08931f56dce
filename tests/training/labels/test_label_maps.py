from __future__ import annotations

import json
import os

import cv2
import numpy as np
import onnx
import pytest
import typer
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from sdk import ContractError, DataError, EngineError, FrameError
from training.cli.labels import labels_command
from training.labels import label_maps
from training.labels.label_maps import confidence_path, label_images, label_map_path
from training.labels.label_png import read_label_map
from training.labels.network_options import NetworkOptions
from training.labels.segmentation import confidence_of
from training.labels.segmentation_network import SegmentationNetwork

HEIGHT, WIDTH = 24, 32
MEAN, STD = (10.0, 20.0, 30.0), (50.0, 40.0, 80.0)
CAR, ROAD, SKY = 13, 0, 10  # what red, green and blue are called here


def make_network(path, layout="nchw", dtype="float", output="logits", classes=19, size=(HEIGHT, WIDTH), metadata=None):
    """A network whose logits are the colours: red says car, green road, blue sky, and nothing else is likely."""
    matrix, bias = np.zeros((3, classes), np.float32), np.full(classes, -20.0, np.float32)
    for colour, label in enumerate((CAR, ROAD, SKY)):
        matrix[colour, label % classes], bias[label % classes] = 1.0, 0.0
    shape = [1, 3, *size] if layout == "nchw" else [1, *size, 3]
    element = {"float": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "float16": TensorProto.FLOAT16}[dtype]
    nodes, last = [helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT)], "x"
    if layout == "nchw":
        nodes.append(helper.make_node("Transpose", [last], ["nhwc"], perm=[0, 2, 3, 1]))
        last = "nhwc"
    if dtype == "uint8":
        nodes.append(helper.make_node("Div", [last, "hundred"], ["scaled"]))
        last = "scaled"
    nodes += [helper.make_node("MatMul", [last, "matrix"], ["raw"]), helper.make_node("Add", ["raw", "bias"], ["sum"])]
    last, element_out = "sum", TensorProto.FLOAT
    if output == "probabilities":
        nodes.append(helper.make_node("Softmax", [last], ["soft"], axis=3))
        last = "soft"
    if output == "ids":
        nodes.append(helper.make_node("ArgMax", [last], ["ids"], axis=3, keepdims=0))
        last, element_out = "ids", TensorProto.INT64
    elif layout == "nchw":
        nodes.append(helper.make_node("Transpose", [last], ["chw"], perm=[0, 3, 1, 2]))
        last = "chw"
    tensors = {"matrix": matrix, "bias": bias, "hundred": np.float32(100.0)}
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", element, shape)],
        [helper.make_tensor_value_info(last, element_out, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata is not None:
        helper.set_model_props(model, {"segmentation": json.dumps(metadata)})
    onnx.save(model, path)
    return path


NORM = {"scale": 1.0, "mean": MEAN, "std": STD}
CITY = NetworkOptions(label_set="cityscapes19")
CITY_FLOAT = NetworkOptions(label_set="cityscapes19", **NORM)


def logits_by_hand(frame, normalised):
    x = (frame.astype(np.float64) - MEAN) / STD if normalised else frame.astype(np.float64) / 100.0
    logits = np.full((*frame.shape[:2], 19), -20.0)
    logits[..., [CAR, ROAD, SKY]] = x
    return logits


@pytest.fixture
def frame():
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def images(tmp_path):
    """A tree of photographs of several sizes, lossless, with a file beside them that is none."""
    root = tmp_path / "images"
    rng = np.random.default_rng(3)
    for name, shape in (
        ("a/0.png", (24, 32)),
        ("a/deep/1.x.bmp", (48, 64)),
        ("b/0.PNG", (40, 80)),
        ("c.jpg", (12, 20)),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
    (root / "a" / "notes.txt").write_text("no image")
    return root


NAMES = ["a/0.png", "a/deep/1.x.png", "b/0.png", "c.png"]


@pytest.fixture
def network(tmp_path):
    return SegmentationNetwork(make_network(tmp_path / "net.onnx", dtype="uint8"), CITY)


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- what a network takes and gives ---------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", ["float", "float16", "uint8"])
@pytest.mark.parametrize("output", ["logits", "probabilities", "ids"])
def test_each_kind_of_network_gives_the_labels_and_softmax_by_hand(layout, dtype, output, tmp_path, frame):
    options = CITY if dtype == "uint8" else CITY_FLOAT
    found = SegmentationNetwork(make_network(tmp_path / "n.onnx", layout, dtype, output), options).segment(frame)
    logits = logits_by_hand(frame, normalised=dtype != "uint8")
    assert found.labels.dtype == np.uint8
    agree = found.labels == logits.argmax(axis=2)
    top = np.sort(logits, axis=2)
    assert agree[top[..., -1] - top[..., -2] > 0.01].all()  # float16 may see a tie
    if output == "ids":
        assert found.confidence is None
    else:
        softmax = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
        np.testing.assert_allclose(found.confidence / 255.0, softmax.max(axis=2), atol=0.01)


def test_colour_order_and_the_files_own_word(tmp_path, frame):
    said = {"label_set": "cityscapes19", "mean": MEAN, "std": STD, "colour": "bgr"}
    network = SegmentationNetwork(make_network(tmp_path / "n.onnx", metadata=said))
    x = (frame[..., ::-1].astype(np.float64) - MEAN) / STD
    np.testing.assert_array_equal(network.segment(frame).labels, np.array([CAR, ROAD, SKY])[x.argmax(axis=2)])
    assert network.settings["input"]["colour"] == "bgr"
    assert SegmentationNetwork(tmp_path / "n.onnx", NetworkOptions(colour="rgb")).settings["input"]["colour"] == "rgb"


def test_maps_keep_the_proportions_and_invent_no_pixels(network):
    for given, expected in (((24, 32), (24, 32)), ((48, 64), (24, 32)), ((40, 80), (16, 32)), ((12, 20), (12, 20))):
        frame = np.zeros((*given, 3), np.uint8)
        frame[:, : given[1] // 2, 2], frame[:, given[1] // 2 :, 0] = 200, 200  # blue left, red right
        found = network.segment(frame)
        assert found.labels.shape == found.confidence.shape == expected
        assert (found.labels[:, : expected[1] // 2 - 2] == SKY).all()
        assert (found.labels[:, expected[1] // 2 + 2 :] == CAR).all()


def test_free_sizes_are_asked_for_and_fixed_ones_kept(tmp_path, frame):
    free = make_network(tmp_path / "free.onnx", dtype="uint8", size=("h", "w"))
    with pytest.raises(ContractError, match="its input has no fixed height; add --height with 1 px or more"):
        SegmentationNetwork(free, CITY)
    options = NetworkOptions(label_set="cityscapes19", height=HEIGHT, width=WIDTH)
    fixed = SegmentationNetwork(make_network(tmp_path / "fixed.onnx", dtype="uint8"), CITY)
    np.testing.assert_array_equal(SegmentationNetwork(free, options).segment(frame).labels, fixed.segment(frame).labels)
    with pytest.raises(ContractError, match="a fixed height of 24 px, not 25; omit --height"):
        SegmentationNetwork(tmp_path / "fixed.onnx", NetworkOptions(label_set="cityscapes19", height=25))


def test_ids_and_channels_of_ade20k_with_its_own_void(tmp_path, frame):
    own, networks = (NetworkOptions(label_set=name) for name in ("ade20k150_png", "ade20k150"))
    with_void = SegmentationNetwork(make_network(tmp_path / "151.onnx", dtype="uint8", classes=151), own)
    without = SegmentationNetwork(make_network(tmp_path / "150.onnx", dtype="uint8", classes=150), own)
    plain = SegmentationNetwork(tmp_path / "150.onnx", networks)
    expected = logits_by_hand(frame, normalised=False).argmax(axis=2)
    np.testing.assert_array_equal(with_void.segment(frame).labels, expected)
    np.testing.assert_array_equal(without.segment(frame).labels, expected + 1)
    np.testing.assert_array_equal(plain.segment(frame).labels, expected)
    with pytest.raises(ContractError, match="is float32"):
        SegmentationNetwork(tmp_path / "151.onnx", networks)


@pytest.mark.parametrize(
    ("made", "asked", "message"),
    [
        ({}, {}, r"takes float32, and its metadata does not give the range; add --mean .* --std .* --scale"),
        ({"dtype": "uint8"}, {"mean": MEAN}, r"takes uint8 pixels without normalisation; omit --mean"),
        ({"dtype": "uint8"}, {"label_set": None}, r"label set None found, expected one of cityscapes19, .*--label-set"),
        ({"dtype": "uint8"}, {"label_set": "coco"}, r"label set 'coco' found"),
        ({"dtype": "uint8"}, {"label_set": "camvid11"}, r"no label map for the 11 classes of camvid11, .* C = 11"),
        ({"dtype": "uint8", "classes": 20}, {}, r"float32 \(1, 20, 24, 32\), which is no label map for the 19 classes"),
        ({"dtype": "uint8", "size": (19, 32), "layout": "nhwc"}, {"output": "ids"}, r"no label map"),
        ({"dtype": "uint8", "size": (24, 19)}, {}, r"\(1, 19, 24, 19\), which is ambiguous .* add --output nchw, nhwc"),
        ({"dtype": "uint8", "size": (24, 3)}, {}, r"axis of 3 colours is not clear; add --input-layout nchw or"),
        ({"dtype": "uint8"}, {"output_name": "aux"}, r"has no output aux, expected one of chw"),
        ({"std": (1.0, 0.0, 1.0)}, {"std": (1.0, 0.0, 1.0)}, r"expected finite numbers, scale and std other than 0"),
        ({"metadata": {"label_set": "ade20k150"}}, {}, r"its metadata names the label set ade20k150, not city"),
        ({"metadata": []}, {}, r'metadata "segmentation" is no JSON object'),
        ({"metadata": {"label_set": ["a"]}}, {"label_set": None}, r"n\.onnx: .* has label_set \['a'\], expected"),
        ({"metadata": {"scale": "1"}}, {}, r"has scale '1', expected a number$"),
        ({"metadata": {"scale": float("nan")}}, {}, r"has scale nan, expected a number"),
        ({"metadata": {"mean": 127.5}}, {}, r"has mean 127\.5, expected three numbers"),
        ({"metadata": {"std": [1, None, 1]}}, {}, r"has std \[1, None, 1\], expected three numbers"),
        ({"metadata": {"colour": "RGB"}}, {}, r"has colour 'RGB', expected rgb or bgr"),
    ],
)
def test_what_is_ambiguous_or_contradicts_is_said(made, asked, message, tmp_path):
    made = {key: value for key, value in made.items() if key != "std"}
    path = make_network(tmp_path / "n.onnx", **made)
    with pytest.raises(ContractError, match=message):
        SegmentationNetwork(path, NetworkOptions(**{"label_set": "cityscapes19", **asked}))


def test_what_shapes_leave_open_an_option_settles(tmp_path):
    frame = np.random.default_rng(1).integers(0, 256, (24, 19, 3), dtype=np.uint8)
    path = make_network(tmp_path / "n.onnx", dtype="uint8", size=(24, 19))
    found = SegmentationNetwork(path, NetworkOptions(label_set="cityscapes19", output="nchw")).segment(frame)
    np.testing.assert_array_equal(found.labels, logits_by_hand(frame, normalised=False).argmax(axis=2))
    for option in ("input_layout", "output", "colour"):
        with pytest.raises(ContractError, match=rf"--{option.replace('_', '-')} is 'sideways', expected \w+ or \w+"):
            NetworkOptions(**{option: "sideways"})


def test_what_is_no_network_is_refused(tmp_path, frame):
    with pytest.raises(EngineError, match=r"nothing\.onnx: cannot be read \(No such file"):
        SegmentationNetwork(tmp_path / "nothing.onnx", CITY)
    (tmp_path / "bad.onnx").write_bytes(b"not onnx")
    with pytest.raises(EngineError, match=r"ONNX Runtime cannot load it"):
        SegmentationNetwork(tmp_path / "bad.onnx", CITY)
    ids = make_network(tmp_path / "ids.onnx", dtype="uint8", output="ids")
    with pytest.raises(EngineError, match=r"gave class 13, expected 0 to 10 or 11 \(void\) as in camvid11; choose"):
        SegmentationNetwork(ids, NetworkOptions(label_set="camvid11")).segment(np.full_like(frame, (200, 0, 0)))


# --- over a data set ------------------------------------------------------------------------------------


def test_tree_is_mirrored_with_maps_confidences_and_a_record(images, network, tmp_path):
    out, told = tmp_path / "new" / "labels", []
    report = label_images(images, out, network, progress=lambda done, total: told.append((done, total)))
    assert (report.made, report.kept, report.failed) == (4, 0, ())
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    expected = [name for png in NAMES for name in (png, png.replace(".png", ".confidence.png"))]
    assert tree(out) == sorted([*expected, "labels.json"])
    for image in sorted(images.rglob("*.*")):
        if image.suffix == ".txt":
            continue
        found = network.segment(cv2.imread(str(image))[..., ::-1])
        relative = image.relative_to(images)
        np.testing.assert_array_equal(read_label_map(label_map_path(out, relative)), found.labels)
        np.testing.assert_array_equal(read_label_map(confidence_path(out, relative)), found.confidence)
    means = [confidence_of(path) for path in out.rglob("*.confidence.png")]
    assert report.mean_confidence == pytest.approx(np.mean(means))
    record = json.loads((out / "labels.json").read_text())
    assert record["label_set"] == "cityscapes19"
    assert record["input"] == {"height": 24, "width": 32, "layout": "nchw", "dtype": "uint8", "colour": "rgb"}
    assert (record["images"], record["without_label_map"]) == (4, [])
    assert len(record["network_sha256"]) == 64


def test_networks_of_class_numbers_leave_no_confidence(images, tmp_path):
    network = SegmentationNetwork(make_network(tmp_path / "n.onnx", dtype="uint8", output="ids"), CITY)
    assert label_images(images, tmp_path / "out", network).mean_confidence is None
    assert tree(tmp_path / "out") == sorted([*NAMES, "labels.json"])


def test_an_interrupted_run_goes_on_and_makes_the_same(images, network, tmp_path):
    label_images(images, tmp_path / "whole", network)

    def interrupt(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label_images(images, tmp_path / "out", network, progress=interrupt)
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    assert len(done) == 4
    report = label_images(images, tmp_path / "out", network)
    assert (report.made, report.kept) == (2, 2)
    assert all(path.stat().st_mtime_ns == time for path, time in done.items())
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    for name in tree(tmp_path / "whole"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_folder_of_another_network_or_of_something_else_is_left_alone(images, network, tmp_path):
    out = tmp_path / "out"
    label_images(images, out, network)
    before = {name: (out / name).read_bytes() for name in tree(out)}
    other = SegmentationNetwork(make_network(tmp_path / "o.onnx", layout="nhwc", dtype="uint8"), CITY)
    with pytest.raises(
        DataError, match=r'its label maps were made with network_sha256 "\w{64}", this run has "\w{64}"; name'
    ):
        label_images(images, out, other)
    assert {name: (out / name).read_bytes() for name in tree(out)} == before
    with pytest.raises(DataError, match=r"is the folder of the images"):
        label_images(images, images, network)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match=r"full: is not empty and has no labels.json"):
        label_images(images, tmp_path / "full", network)
    with pytest.raises(DataError, match=r"is a file, expected a folder"):
        label_images(images, tmp_path / "full" / "thesis.tex", network)
    (out / "labels.json").write_text("[")
    with pytest.raises(DataError, match=r"labels.json: is no JSON object"):
        label_images(images, out, network)


def test_a_network_may_have_another_name_next_time(images, network, tmp_path):
    label_images(images, tmp_path / "out", network)
    (tmp_path / "net.onnx").rename(tmp_path / "renamed.onnx")
    assert label_images(images, tmp_path / "out", SegmentationNetwork(tmp_path / "renamed.onnx", CITY)).kept == 4


def test_no_map_lies_there_without_its_confidence(images, network, tmp_path, monkeypatch):
    done = []

    def fail_at_the_second(path, data):
        if path.suffix == ".png":
            done.append(path.name)
            if len(done) == 2:
                raise EngineError("the disk is full")
        write(path, data)

    write = label_maps.write
    monkeypatch.setattr(label_maps, "write", fail_at_the_second)
    with pytest.raises(EngineError, match="the disk is full"):
        label_images(images, tmp_path / "out", network)
    assert done == ["0.confidence.png", "0.png"]
    assert tree(tmp_path / "out") == ["a/0.confidence.png", "labels.json"]


def test_names_that_are_no_utf_8_are_recorded_as_json(images, network, tmp_path):
    (images / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"no picture")
    report = label_images(images, tmp_path / "out", network)
    assert len(report.failed) == 1
    record = json.loads((tmp_path / "out" / "labels.json").read_text(encoding="utf-8"))
    assert record["without_label_map"] == list(report.failed)


def test_output_inside_the_images_is_not_labelled(images, network):
    out = images / "labels"
    label_images(images, out, network)
    assert label_images(images, out, network).kept == 4
    assert tree(out) == sorted(["labels.json", *NAMES, *(name.replace(".png", ".confidence.png") for name in NAMES)])


def test_two_images_of_one_name_are_told_before_anything_is_written(images, network, tmp_path):
    cv2.imwrite(str(images / "a" / "0.bmp"), np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(DataError, match=r"the label maps of a/0\.bmp and a/0\.png would both be 0\.png"):
        label_images(images, tmp_path / "out", network)
    (images / "a" / "0.bmp").rename(images / "a" / "0.confidence.bmp")
    with pytest.raises(DataError, match=r"would both be 0\.confidence\.png"):
        label_images(images, tmp_path / "out", network)
    (images / "c.png").mkdir()
    (images / "a" / "0.confidence.bmp").rename(images / "c.png" / "1.bmp")
    with pytest.raises(DataError, match=r"label map of c\.jpg would be c\.png, which is the folder of c\.png/1\.bmp's"):
        label_images(images, tmp_path / "out", network)
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="there is no such folder"):
        label_images(tmp_path / "nowhere", tmp_path / "out", network)


def test_images_that_do_not_decode_are_named_and_the_others_done(images, network, tmp_path):
    (images / "a" / "0.png").write_bytes((images / "a" / "0.png").read_bytes()[:-20])
    (images / "empty.jpg").write_bytes(b"")
    report = label_images(images, tmp_path / "out", network)
    assert report.made == 3
    assert [text.split(": ")[0] for text in report.failed] == [str(images / "a" / "0.png"), str(images / "empty.jpg")]
    assert json.loads((tmp_path / "out" / "labels.json").read_text())["without_label_map"] == list(report.failed)
    assert not (tmp_path / "out" / "a" / "0.png").exists()


def test_verb_reports_and_fails_when_an_image_does(images, tmp_path, capsys):
    path = make_network(tmp_path / "net.onnx", dtype="uint8", metadata={"label_set": "cityscapes19"})
    labels_command(images, tmp_path / "out", path)
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path / 'out'}: 4 label maps, ")
    assert "mean confidence 0." in said
    (images / "d.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(FrameError, match=r"^1 images have no label map: .*d\.jpg: is cut short"):
        labels_command(images, tmp_path / "out", path)
    assert "0 label maps, mean" not in (again := capsys.readouterr().out)
    assert "4 kept from before" in again


def test_three_numbers_follow_mean_and_std_on_the_command_line(images, tmp_path):
    path = make_network(tmp_path / "net.onnx")
    app = typer.Typer()
    app.command()(labels_command)
    numbers = ["--mean", *map(str, MEAN), "--std", *map(str, STD)]
    arguments = [str(images), str(tmp_path / "out"), "--network", str(path), "--label-set", "cityscapes19", *numbers]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out" / "labels.json").read_text())["input"]
    assert (found["mean"], found["std"]) == (pytest.approx(list(MEAN)), pytest.approx(list(STD)))
