"""The page of answers: one file, nothing fetched, nothing run, every name shown as it is."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import Frame, picture

from sdk import Match, Place, WriteError
from sdk.pages.report import ReportRow, write_report

NASTY = "<b>&\"'</td><script>alert(1)</script>"
VOID = {"meta", "br", "img"}
MAY_STAY_OPEN = {"html", "tr", "td", "th"}  # HTML closes them by itself


class Page(HTMLParser):
    """Checks the nesting; keeps tags, attributes and visible text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert set(self.open) <= MAY_STAY_OPEN, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open[-1] != tag:
            assert self.open.pop() in MAY_STAY_OPEN, f"</{tag}> closes something else"
        assert self.open, f"</{tag}> was never opened"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def row(right: bool | None, error_m: float | None, match_frame: Frame | None, name: str = NASTY) -> ReportRow:
    match = Match(Place(name=f"place {name}", id=3), 0.87654)
    return ReportRow(picture(1), f"query {name}", match, match_frame, right, error_m)


ROWS = [row(True, 3.21, picture(2)), row(False, 99.99, None), row(None, None, picture(3))]


def write(folder: Path, rows: list[ReportRow] = ROWS) -> str:
    path = folder / "report.html"
    write_report(path, f"title {NASTY}", {f"key {NASTY}": f"value {NASTY}"}, rows)
    assert [p.name for p in folder.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    page = Page(write(tmp_path))
    for text in ("title", "key", "value", "query", "place"):
        assert f"{text} {NASTY}" in page.texts


def test_self_contained(tmp_path: Path) -> None:
    text = write(tmp_path)
    page = Page(text)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "base", "b"}
    assert not re.search(r"https?://|url\(|@import", text)
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        if "src" in attributes:
            assert (attributes["src"] or "").startswith("data:image/jpeg;base64,")
        assert "href" not in attributes


def test_verdicts(tmp_path: Path) -> None:
    page = Page(write(tmp_path))
    verdicts = [text for text in page.texts if text in ("right", "wrong", "not judged")]
    assert verdicts == ["right", "wrong", "not judged"]
    assert [a["class"] for tag, a in page.tags if tag == "td" and "class" in a] == ["right", "wrong", "open"]
    assert [text for text in page.texts if text.endswith("m off")] == ["3.2 m off", "100.0 m off"]
    assert page.texts.count("0.877") == 3


def test_pictures_are_inside(tmp_path: Path) -> None:
    page = Page(write(tmp_path))
    sources = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 5  # three queries, two matches
    expected = [picture(1), picture(2), picture(1), picture(1), picture(3)]
    for source, frame in zip(sources, expected, strict=True):
        data = np.frombuffer(base64.b64decode(source.partition(",")[2]), np.uint8)
        shown = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert shown is not None
        assert shown.shape == (180, 240, 3)
        reference = cv2.resize(frame, (240, 180), interpolation=cv2.INTER_AREA)
        assert float(np.abs(shown[..., ::-1].astype(int) - reference.astype(int)).mean()) < 4  # RGB kept


@pytest.mark.parametrize("size", [(32, 4000), (4000, 32), (40_000, 32)])
def test_pictures_of_any_shape(size: tuple[int, int], tmp_path: Path) -> None:
    frame = np.zeros((*size, 3), np.uint8)
    Page(write(tmp_path, [ReportRow(frame, "q", Match(Place("p"), 0.5), frame)]))


def test_no_rows(tmp_path: Path) -> None:
    Page(write(tmp_path, []))


def test_a_name_that_is_no_unicode(tmp_path: Path) -> None:
    # A file name in Latin-1, as Python hands it out.
    Page(write(tmp_path, [row(None, None, None, name=b"caf\xe9.jpg".decode("utf-8", "surrogateescape"))]))


def test_it_replaces_an_older_page(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("old")
    assert "old" not in Page(write(tmp_path)).texts


@pytest.mark.parametrize("where", ["nope/report.html", "file.txt/report.html", "folder", "x" * 300])
def test_what_cannot_be_written(where: str, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("keep me")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(WriteError, match=r"cannot write .*(; |expected)"):
        write_report(tmp_path / where, "t", {}, ROWS)
    assert sorted(tmp_path.rglob("*")) == before
