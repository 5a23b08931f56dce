"""The gate: good files pass, broken ones do not, and what it cannot show it does not say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="exporting needs onnx (extra: export)")

from tiny_networks import (  # noqa: E402
    CHANNELS,
    DIM,
    change_weights,
    contract,
    ended_by,
    network,
    rounded,
    save,
    write_pictures,
)

from export.gate.comparison import compare  # noqa: E402
from export.gate.decision import DEFAULT_THRESHOLDS, Thresholds, gate, judge  # noqa: E402
from export.gate.frames import read_gate_frames, require_apart, require_readable  # noqa: E402
from export.gate.paired_loss import PairedLoss, enough_queries, upper_limit  # noqa: E402
from sdk import (  # noqa: E402
    ContractError,
    DataError,
    EngineError,
    FrameError,
    UsageError,
    open_backend,
    prepare,
    read_image,
)
from sdk.evaluation.sets import PlaceSet  # noqa: E402

MODEL = Path(__file__).parents[3] / "models" / "efficientnet-lite0-gem.onnx"
Z_TWO_SIDED = 1.959963984540054

# Every way to break a network without a word in its contract.
BROKEN = {
    "weights perturbed": lambda model: change_weights(
        model, lambda kernel: kernel + np.random.default_rng(1).normal(0, 0.5 * kernel.std(), kernel.shape)
    ),
    "channels swapped": lambda model: change_weights(model, lambda kernel: kernel[:, ::-1]),
    "3 bits a tensor": lambda model: change_weights(model, lambda kernel: rounded(kernel, 3)),
    "constant": lambda model: ended_by(ended_by(model, "Mul", np.zeros(DIM)), "Add", np.linspace(1, 2, DIM)),
    "half of it lost": lambda model: ended_by(model, "Mul", np.arange(DIM) % 2),
    "descriptor permuted": lambda model: change_weights(model, lambda kernel: np.roll(kernel, 1, axis=0)),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """30 frames of as many places."""
    folder = tmp_path_factory.mktemp("photos")
    write_pictures(folder, [f"{i:02}.png" for i in range(30)])
    return read_gate_frames(frames=folder)


@pytest.fixture(scope="module")
def campus(tmp_path_factory):
    """40 places 100 m apart, each asked for again by a noisy frame 5 m off."""
    root = tmp_path_factory.mktemp("campus")
    write_pictures(root / "database", [f"@{10_000 + 100 * i}@0@.png" for i in range(40)])
    write_pictures(root / "queries", [f"@{10_000 + 100 * i + 5}@0@.png" for i in range(40)], noise=20.0)
    return read_gate_frames(database_folder=root / "database", queries_folder=root / "queries")


@pytest.fixture
def reference(tmp_path):
    return save(tmp_path / "reference.onnx", network())


# --- the interval ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("queries", "lost", "gained", "low", "high"),
    [
        # Fagerland, Lydersen and Laake (2014), table III: airway hyper-responsiveness (Bentur et al. 2009)
        (21, 1, 7, -0.517, -0.026),
        # R package contingencytables, tests: complete response (Cavo et al. 2012)
        (161, 6, 16, -0.1240, -0.0054),
    ],
)
def test_interval_is_the_published_one(queries, lost, gained, low, high):
    assert upper_limit(queries, lost, gained, Z_TWO_SIDED) == pytest.approx(high, abs=6e-5 if queries > 100 else 6e-4)
    assert -upper_limit(queries, gained, lost, Z_TWO_SIDED) == pytest.approx(low, abs=6e-5 if queries > 100 else 6e-4)


def test_interval_without_a_difference():
    """Wald's interval and the bootstrap would be [0, 0]: any number of queries would pass."""
    for queries in (1, 10, 299, 10_000):
        loss = PairedLoss(queries, 0, 0)
        assert (1 - loss.upper) ** queries == pytest.approx(0.05)  # how often a loss of so much leaves no trace
        assert loss.lower == -loss.upper
    assert PairedLoss(298, 0, 0).upper > 0.01 >= PairedLoss(299, 0, 0).upper


@pytest.mark.parametrize(("p_lost", "p_gained"), [(0.01, 0.0), (0.03, 0.02), (0.1, 0.05), (0.2, 0.2)])
def test_interval_covers_the_truth(p_lost, p_gained):
    """Exactly, over all outcomes of 100 queries: the true loss is below the limit 19 times of 20, or nearly."""
    queries, covered = 100, 0.0
    for lost in range(60):
        for gained in range(60 if p_gained else 1):
            rest = queries - lost - gained
            if rest < 0:
                continue
            log = math.lgamma(queries + 1) - sum(math.lgamma(count + 1) for count in (lost, gained, rest))
            log += lost * math.log(p_lost) + rest * math.log(1 - p_lost - p_gained)
            chance = math.exp(log + (gained * math.log(p_gained) if p_gained else 0.0))
            if chance > 1e-9 and PairedLoss(queries, lost, gained).upper >= p_lost - p_gained:
                covered += chance
    assert covered > 0.93


def test_interval_at_its_ends():
    assert PairedLoss(5, 5, 0).upper == 1.0
    assert PairedLoss(5, 0, 5).lower == -1.0
    assert PairedLoss(5, 0, 5).upper < 0


def test_enough_queries():
    assert enough_queries(PairedLoss(100, 0, 0), 0.01) == 299
    assert enough_queries(PairedLoss(100, 1, 0), 0.01) is None  # loses as much as is allowed
    assert enough_queries(PairedLoss(1, 0, 1), 0.01) == 299  # a lucky query is no evidence
    wanted = enough_queries(PairedLoss(200, 3, 2), 0.01)
    assert upper_limit(wanted, 0.015 * wanted, 0.01 * wanted) <= 0.01
    assert upper_limit(wanted - 1, 0.015 * (wanted - 1), 0.01 * (wanted - 1)) > 0.01
    assert wanted > 299


# --- verdicts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_identical_file_passes(reference, tmp_path, photos, precision):
    verdict = gate(reference, save(tmp_path / "b.onnx", network(), precision=precision), photos)
    assert verdict.passed
    assert verdict.reasons == ()
    assert verdict.thresholds == DEFAULT_THRESHOLDS[precision]
    assert verdict.judged == ("mean cosine", "top-1 agreement")
    found = verdict.comparison
    assert found.mean_cosine == pytest.approx(1.0, abs=1e-6)
    assert found.centred_cosine == pytest.approx(1.0, abs=1e-5)
    assert found.max_abs_difference == 0.0
    assert [figures.top1_agreement for figures in found.maps] == [1.0, 1.0]
    assert (found.frames, found.queries, found.database, found.unusable) == (30, 30, 29, 0)


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_does_not_pass(reference, tmp_path, photos, how):
    """Even as int8, which is allowed most."""
    verdict = gate(reference, save(tmp_path / "b.onnx", BROKEN[how](network()), precision="int8"), photos)
    assert not verdict.passed
    assert verdict.reasons


def test_a_faithful_file_of_fewer_bits_passes(reference, tmp_path, photos):
    """The gate tells damage from rounding: 8 bits a tensor are enough for this network, 3 were not."""
    candidate = change_weights(network(), lambda kernel: rounded(kernel, 8))
    verdict = gate(reference, save(tmp_path / "b.onnx", candidate, precision="int8"), photos)
    assert verdict.passed, verdict.reasons
    assert 0.99 < verdict.comparison.mean_cosine < 1 - 1e-6


def test_a_constant_file_fails_though_its_cosine_is_high(tmp_path, photos):
    """Descriptors that share most of their length: the cosine alone would let a constant pass."""
    shared = ended_by(network(), "Add", np.full(DIM, 50.0))
    constant = ended_by(ended_by(network(), "Mul", np.zeros(DIM)), "Add", np.full(DIM, 50.0))
    reference = save(tmp_path / "a.onnx", shared)
    verdict = gate(reference, save(tmp_path / "b.onnx", constant, precision="int8"), photos)
    assert verdict.comparison.mean_cosine > 0.98
    assert abs(verdict.comparison.centred_cosine) < 0.3
    assert not verdict.passed
    assert all("first answers" in reason for reason in verdict.reasons)


@pytest.mark.parametrize("factor", [0.0, np.inf])
def test_a_file_without_a_direction_does_not_pass(reference, tmp_path, photos, factor):
    candidate = ended_by(network(), "Mul", np.full(DIM, factor))
    verdict = gate(reference, save(tmp_path / "b.onnx", candidate, precision="fp16"), photos)
    assert not verdict.passed
    assert "30 of 30 frames are described by zeros or by numbers that are not finite" in verdict.reasons[0]
    assert verdict.comparison.unusable == 30
    json.dumps(verdict.to_record(), allow_nan=False)


def test_figures_are_those_of_numpy(reference, tmp_path, campus):
    candidate = save(tmp_path / "b.onnx", BROKEN["3 bits a tensor"](network()), precision="int8")
    found = compare(reference, candidate, campus)
    rows = {}
    for name, path in (("a", reference), ("b", candidate)):
        backend = open_backend(path)
        for kind, files in (("q", campus.queries), ("d", campus.database)):
            raw = np.stack(
                [backend.infer(prepare(read_image(file), backend.contract.size))["raw_descriptor"] for file in files]
            )
            rows[name + kind] = raw / np.linalg.norm(raw.astype(np.float64), axis=1, keepdims=True)
    cosines = (rows["aq"] * rows["bq"]).sum(1)  # the queries alone: the database may have been calibrated on
    assert found.mean_cosine == pytest.approx(cosines.mean(), abs=1e-6)
    assert found.min_cosine == pytest.approx(cosines.min(), abs=1e-6)
    assert found.p1_cosine == pytest.approx(np.percentile(cosines, 1), abs=1e-6)
    assert found.max_abs_difference == pytest.approx(np.abs(rows["aq"] - rows["bq"]).max(), abs=1e-6)
    first = {(asked, known): (rows[asked + "q"] @ rows[known + "d"].T).argmax(1) for asked in "ab" for known in "ab"}
    truth = np.arange(40)
    right = first["a", "a"] == truth
    assert found.reference_recall["R@1"] == pytest.approx(right.mean())
    for figures, known in zip(found.maps, "ab", strict=True):
        hits = first["b", known] == truth
        assert figures.top1_agreement == pytest.approx((first["b", known] == first["a", "a"]).mean())
        assert figures.recall["R@1"] == pytest.approx(hits.mean())
        assert figures.loss == PairedLoss(40, int((right & ~hits).sum()), int((hits & ~right).sum()))
    assert (found.matched, found.right, found.database) == (40, "25 m", 40)


def test_without_a_database_a_query_never_finds_itself(reference, tmp_path, photos):
    rolled = save(tmp_path / "b.onnx", BROKEN["descriptor permuted"](network()))
    found = compare(reference, rolled, photos)
    assert found.database == len(photos.queries) - 1
    with_reference, with_own = found.maps
    assert with_own.top1_agreement == 1.0  # a map of its own does not show that it differs
    assert with_reference.top1_agreement < 0.5


def test_recall_is_undecided_with_few_queries(reference, tmp_path, campus):
    verdict = gate(reference, save(tmp_path / "b.onnx", network(), precision="int8"), campus)
    assert not verdict.passed
    assert verdict.judged == ("mean cosine", "loss of R@1")
    assert len(verdict.reasons) == 2  # either map
    assert verdict.reasons[0].startswith("undecided: ")
    assert "40 queries, 0 lost and 0 gained" in verdict.reasons[0]
    assert "give about 299 queries" in verdict.reasons[0]
    allowed = judge(verdict.comparison, Thresholds(0.98, 0.8, 7.5))
    assert allowed.passed


def test_recall_is_not_judged_for_fp16_unless_asked_for(reference, tmp_path, campus):
    candidate = save(tmp_path / "b.onnx", network(), precision="fp16")
    verdict = gate(reference, candidate, campus)
    assert verdict.passed
    assert verdict.judged == ("mean cosine", "top-1 agreement")
    assert verdict.comparison.maps[0].loss == PairedLoss(40, 0, 0)
    assert not gate(reference, candidate, campus, Thresholds(0.999, 0.9, 1.0)).passed


def test_without_a_true_place_no_loss_is_excluded(reference, tmp_path, campus):
    """Frames that were said to show R@1, and cannot, are not judged by their first answers instead."""
    candidate = save(tmp_path / "b.onnx", network(), precision="int8")
    nowhere = PlaceSet(
        "nowhere", campus.queries, campus.database, {"1 m": [np.array([], np.int64)] * len(campus.queries)}
    )
    verdict = gate(reference, candidate, nowhere)
    assert not verdict.passed
    assert verdict.judged == ("mean cosine", "loss of R@1")
    assert verdict.reasons[0].startswith("no query has a true place (1 m), so R@1 cannot be judged")


def test_recall_that_is_lost_is_said_to_be(reference, tmp_path, campus):
    candidate = save(tmp_path / "b.onnx", BROKEN["descriptor permuted"](network()), precision="int8")
    verdict = gate(reference, candidate, campus, Thresholds(0.0, 0.0, 1.0))
    assert not verdict.passed
    assert "it loses" in verdict.reasons[0]
    assert verdict.reasons[1].startswith("undecided")  # with a map of its own it loses nothing


def test_the_record_is_plain(reference, tmp_path, campus):
    verdict = gate(reference, save(tmp_path / "b.onnx", network(), precision="int8"), campus)
    record = json.loads(json.dumps(verdict.to_record(), allow_nan=False))
    assert record == verdict.to_record()
    assert record["passed"] is False
    assert record["thresholds"] == {"min_mean_cosine": 0.98, "min_top1_agreement": 0.8, "max_recall_drop": 1.0}
    assert record["figures"]["maps"][0]["loss"]["upper"] == pytest.approx(1 - 0.05 ** (1 / 40))


def test_the_committed_model(tmp_path, photos):
    """Against itself it passes as fp32; with kernels of 3 bits it does not pass as int8."""
    photos = PlaceSet("photos", photos.queries[:10])
    assert gate(MODEL, MODEL, photos).passed
    broken = change_weights(onnx.load(MODEL), lambda kernel: rounded(kernel, 3))
    path = tmp_path / "broken.onnx"
    path.write_bytes(broken.SerializeToString())
    verdict = gate(MODEL, path, photos, DEFAULT_THRESHOLDS["int8"])
    assert not verdict.passed


# --- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"weights": "b" * 64}, {"mean": (1.0, 0.0, 0.0)}])
def test_another_network_is_refused(reference, tmp_path, photos, changes):
    with pytest.raises(ContractError, match=r"is of another network than .*; give two files with the same weights"):
        gate(reference, save(tmp_path / "b.onnx", network(), **changes), photos)


def test_name_and_precision_are_not_another_network(reference, tmp_path, photos):
    assert contract(name="other", precision="int8").identity == contract().identity
    assert gate(reference, save(tmp_path / "b.onnx", network(), name="other"), photos).passed


def test_a_reference_that_is_not_fp32_is_refused(tmp_path, photos):
    path = save(tmp_path / "a.onnx", network(), precision="fp16")
    with pytest.raises(ContractError, match="is in fp16, expected the model in fp32 to judge against"):
        gate(path, path, photos)


def test_a_broken_reference_is_refused(reference, tmp_path, photos):
    broken = save(tmp_path / "a.onnx", ended_by(network(), "Mul", np.zeros(DIM)))
    with pytest.raises(EngineError, match=r"a\.onnx: describes .*; export the reference again"):
        gate(broken, reference, photos)


def test_too_few_frames_are_refused(reference, photos):
    with pytest.raises(DataError, match="9 frames to judge on were given, expected at least 10"):
        gate(reference, reference, PlaceSet("photos", photos.queries[:9]))


@pytest.mark.parametrize(
    "limits", [(1.1, 0.5, None), (-0.1, 0.5, None), (0.5, 2.0, None), (0.5, 0.5, 0.0), (0.5, 0.5, float("nan"))]
)
def test_thresholds_out_of_range(limits):
    with pytest.raises(UsageError, match="expected"):
        Thresholds(*limits)


def test_frames_that_are_not_named_rightly(tmp_path):
    assert read_gate_frames() is None
    write_pictures(tmp_path / "one", ["0.png"])
    for words, error, message in (
        ({"frames": tmp_path, "dataset": "x"}, UsageError, "give one of --frames, .*not several"),
        ({"database_folder": tmp_path}, UsageError, "was given; add the other"),
        ({"frames": tmp_path / "nope"}, DataError, "there is no such file or folder"),
        ({"frames": tmp_path / "one"}, DataError, "holds one frame"),
        ({"frames": tmp_path, "radius_m": -1.0}, UsageError, "give metres >= 0"),
    ):
        with pytest.raises(error, match=message):
            read_gate_frames(**words)


def test_all_traverses_of_a_data_set_are_asked(tmp_path):
    write_pictures(tmp_path / "database", ["0.png", "1.png"])
    for seed, traverse in ((10, "query_a"), (20, "query_b")):
        write_pictures(tmp_path / traverse, ["0.png", "1.png"], first_seed=seed)
    rows = "".join(f"{t},{i}.png,{i}.png,{i}.png,{i}.png\n" for t in ("query_a", "query_b") for i in (0, 1))
    (tmp_path / "ground_truth.csv").write_text("query_set,query,db,db_first_ok,db_last_ok\n" + rows)
    found = read_gate_frames(dataset=str(tmp_path))
    assert [path.parent.name for path in found.queries] == ["query_a", "query_a", "query_b", "query_b"]
    assert [list(true) for true in found.positives] == [[0], [1], [0], [1]]
    assert found.right == "the set's own"


def test_queries_must_differ(tmp_path):
    """A query that is in the database finds itself with any network."""
    places = [f"@{10_000 + 100 * i}@0@.png" for i in range(4)]
    write_pictures(tmp_path / "places", places)
    with pytest.raises(DataError, match=r"@10000@0@\.png: is the same picture as .*@10000@0@\.png; take one"):
        read_gate_frames(database_folder=tmp_path / "places", queries_folder=tmp_path / "places")
    frames = write_pictures(tmp_path / "frames", ["0.png", "1.png", "2.png"])
    (tmp_path / "frames" / "3.png").write_bytes(frames[1].read_bytes())
    with pytest.raises(DataError, match=r"3\.png: is the same picture as .*1\.png"):
        read_gate_frames(frames=tmp_path / "frames")


def test_positions_that_match_nothing_are_refused(tmp_path):
    write_pictures(tmp_path / "database", ["@0@0@.png", "@100@0@.png"])
    write_pictures(tmp_path / "queries", ["@50@0@.png", "@150@0@.png"], noise=20.0)
    folders = {"database_folder": tmp_path / "database", "queries_folder": tmp_path / "queries"}
    with pytest.raises(DataError, match=r"no query has a true place \(25 m\); give queries"):
        read_gate_frames(**folders)
    assert sorted(len(true) for true in read_gate_frames(**folders, radius_m=60.0).positives) == [1, 2]


def test_frames_are_read_before_the_work(tmp_path):
    *whole, broken = write_pictures(tmp_path, ["0.png", "1.png", "2.png"])
    broken.write_bytes(broken.read_bytes()[:100])
    told = []
    with pytest.raises(FrameError, match=r"2\.png: "):
        require_readable(PlaceSet("whole", whole, [broken]), lambda *told_of: told.append(told_of))
    assert told == [("reading frames", 1, 3), ("reading frames", 2, 3)]


def test_the_map_may_be_calibrated_on(campus):
    """As by a robot; its queries may not."""
    require_apart(campus.database[0].parent, campus)
    with pytest.raises(DataError, match="one to calibrate on"):
        require_apart(campus.queries[0].parent, campus)


def test_queries_are_not_calibrated_on(tmp_path, photos):
    folder = tmp_path / "calibration"
    write_pictures(folder, ["a.png", "b.png"], first_seed=100)
    require_apart(folder, photos)
    (folder / "copy.png").write_bytes(photos.queries[3].read_bytes())  # under another name
    with pytest.raises(DataError, match=r"03\.png: is a frame to judge on and, as .*copy\.png, one to calibrate on"):
        require_apart(folder, photos)
    with pytest.raises(DataError, match="one to calibrate on"):
        require_apart(photos.queries[0].parent, photos)


def test_the_tiny_network_tells_places_apart(reference, campus):
    """Without this the tests above would show little."""
    assert compare(reference, reference, campus).reference_recall["R@1"] > 0.9
    assert CHANNELS * 4 == DIM
