"""Files that structvpr 0.1.0 wrote: they open, and answer as they did then.

`data/v0.1.0` was written by 0.1.0 before the code was moved; see its README.
"""

from __future__ import annotations

import json
import lzma
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

import sdk
from sdk.backends.engine_sidecar import read_sidecar, require_intact

FILES = Path(__file__).parent / "data" / "v0.1.0"
EXPECTED: dict[str, Any] = json.loads((FILES / "expected.json").read_text())
TOLERANCE = 1e-5  # of a similarity: the network's mean is summed in another order on another processor


def frames(count: int, seed: int) -> list[npt.NDArray[np.uint8]]:
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)
    return [cv2.resize(image, (64, 48), interpolation=cv2.INTER_NEAREST) for image in coarse]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FILES, tmp_path / "files"))


@pytest.mark.parametrize("keep_index", [True, False], ids=["with its index", "index deleted"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_map_answers_as_it_did(folder: Path, dtype: str, keep_index: bool) -> None:
    path, expected = folder / f"campus-{dtype}.places", EXPECTED[dtype]
    if not keep_index:
        path.with_name(path.name + ".index").unlink()
    with sdk.Localizer(folder / "tiny.onnx", path) as localizer:
        assert len(localizer) == expected["places"]
        assert (localizer.store.index.origin == "read") is keep_index
        queries = frames(6, 0) + frames(3, 1) + frames(1, 9)
        for query, answer in zip(queries, expected["answers"], strict=True):
            found = {match.place.id: match for match in localizer.query(query, k=30).matches}
            assert found.keys() == {row[0] for row in answer}
            for place_id, name, position, heading_deg, timestamp_s, image, traverse, similarity in answer:
                position = None if position is None else tuple(position)
                place = sdk.Place(name, position, heading_deg, timestamp_s, image, traverse, place_id)
                assert found[place_id].place == place
                assert found[place_id].similarity == pytest.approx(similarity, abs=TOLERANCE)


def test_a_map_can_be_changed(folder: Path) -> None:
    path = folder / "campus-float16.places"
    with sdk.Localizer(folder / "tiny.onnx", path) as localizer:
        localizer.remove(1)
        assert localizer.add(frames(1, 2)[0], sdk.Place("new")).id == 26  # no id is used twice
    place_map = sdk.PlaceMap.open(path)
    assert place_map.check() == []
    place_map.close()


def test_a_network_is_the_one_it_was() -> None:
    backend = sdk.open_backend(FILES / "tiny.onnx")
    assert backend.contract.identity == EXPECTED["onnx"]["identity"]
    backend.close()


def test_an_engine_and_its_sidecar_are_read() -> None:
    sidecar = read_sidecar(FILES / "model.engine")
    assert (sidecar.runtime_version, sidecar.compute_capabilities) == ("10.3.0", ("8.7",))
    assert len(require_intact(FILES / "model.engine", sidecar)) == sidecar.engine_bytes


def test_a_checkpoint_is_loaded(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs torch: pip install structvpr[training]")
    from training.networks.checkpoint import load_checkpoint

    path = tmp_path / "student.pt"
    path.write_bytes(lzma.decompress((FILES / "student.pt.xz").read_bytes()))
    net, contract = load_checkpoint(path)
    expected = EXPECTED["checkpoint"]
    assert (contract.identity, contract.weights) == (expected["identity"], expected["weights"])
    assert net.descriptor_dim == expected["descriptor_dim"]


def test_a_recipe_is_read() -> None:
    pytest.importorskip("torch", reason="training needs torch: pip install structvpr[training]")
    from training.recipe import read_recipe

    assert read_recipe(FILES / "recipe.json") == read_recipe(None)  # it holds 0.1.0's defaults
