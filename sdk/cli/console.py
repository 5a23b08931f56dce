"""Output of the verbs: progress bars, tables, JSON."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

__all__ = ["print_json", "print_table", "progress_bars"]


@contextlib.contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A function to call with (what, done, total). It draws one bar for each `what` on stderr, and clears them later.

    With a total of 0 the bar only shows activity. Nothing is drawn if stderr is not a terminal.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    drawn = sys.stderr.isatty()
    # A duplicate descriptor: stderr is redirected while images are decoded, see `listen_to_decoders`.
    stream = os.fdopen(os.dup(sys.stderr.fileno()), "w") if drawn else io.StringIO()
    with stream, Progress(*columns, console=Console(file=stream), transient=True, disable=not drawn) as bars:

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=total or None)

        yield tell


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout: the first column left-aligned, the others right-aligned. Empty headers are hidden."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(headers))
    for i, header in enumerate(headers):
        table.add_column(header, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(soft_wrap=True).print(table)


def print_json(record: Any) -> None:
    """Print one JSON document on stdout."""
    typer.echo(json.dumps(record, indent=2, ensure_ascii=False))
