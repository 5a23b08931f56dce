"""An HTML page that shows each query beside its best match."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..answers import Match
from ..atomic_file import replace_when_done

__all__ = ["ReportRow", "thumbnail", "write_report"]

THUMBNAIL_WIDTH_PX = 240
THUMBNAIL_MAX_HEIGHT_PX = 960  # taller frames are squeezed: a JPEG has at most 65,500 rows

STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; margin-bottom: 0 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem }
dd { margin: 0 }
table { border-collapse: collapse; width: 100% }
td, th { padding: .4rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid #8884 }
img { display: block; width: 240px; height: auto }
.right { color: #177a2b } .wrong { color: #c0261d } .open { color: #777 }
td.right, td.wrong, td.open { font-weight: 600 }
small { color: #777 }
"""


@dataclass(frozen=True)
class ReportRow:
    """One answer.

    Attributes:
        query: frame, uint8 (H, W, 3) RGB.
        name: name of the query.
        match: the best match.
        match_frame: the map's frame of the match, None if it cannot be read.
        right: whether the match is a true place; None if unknown.
        error_m: distance between the two positions, m; None if one is unknown.
    """

    query: npt.NDArray[np.uint8]
    name: str
    match: Match
    match_frame: npt.NDArray[np.uint8] | None
    right: bool | None = None
    error_m: float | None = None


def write_report(path: Path, title: str, summary: dict[str, str], rows: Sequence[ReportRow]) -> None:
    """Write the page as one file with its images, without scripts or network access.

    Args:
        path: the HTML file.
        title: heading of the page.
        summary: label and text of each line above the table.
        rows: one row per answer, in order.

    Raises:
        WriteError: the file cannot be written.
    """
    lines = "".join(f"<dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd>" for key, value in summary.items())
    body = "".join(map(_row, rows))
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style><h1>{html.escape(title)}</h1><dl>{lines}</dl>"
        f"<table><thead><tr><th>query<th>best match<th>similarity<th>verdict</thead><tbody>{body}</tbody></table>\n"
    )
    with replace_when_done(path) as temporary:
        # A file name may not be Unicode; the browser then shows a replacement character.
        temporary.write_text(page, encoding="utf-8", errors="xmlcharrefreplace")


def _row(row: ReportRow) -> str:
    verdict, css = {True: ("right", "right"), False: ("wrong", "wrong"), None: ("not judged", "open")}[row.right]
    error = "" if row.error_m is None else f"<br><small>{row.error_m:.1f} m off</small>"
    match = "" if row.match_frame is None else _image(row.match_frame)
    return (
        f"<tr><td>{_image(row.query)}<small>{html.escape(row.name)}</small>"
        f"<td>{match}<small>{html.escape(row.match.place.label)}</small>"
        f'<td>{row.match.similarity:.3f}<td class="{css}">{verdict}{error}'
    )


def thumbnail(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The frame at the size of the page: uint8 (h, 240, 3) RGB, h <= 960."""
    height = min(max(1, round(frame.shape[0] * THUMBNAIL_WIDTH_PX / frame.shape[1])), THUMBNAIL_MAX_HEIGHT_PX)
    return np.asarray(cv2.resize(frame, (THUMBNAIL_WIDTH_PX, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _image(frame: npt.NDArray[np.uint8]) -> str:
    small = thumbnail(frame)
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}">'
