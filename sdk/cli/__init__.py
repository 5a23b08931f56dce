"""The command `structvpr`. typer and rich are imported here and nowhere else in the SDK."""

from __future__ import annotations

import io
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

import sdk
from sdk.errors import Error
from sdk.frames.image_file import listen_to_decoders

from . import bench, doctor, evaluate, maps, query

__all__ = ["main"]

USER_ERROR = 2  # exit code of an error that the user can fix

# Packages that the extras install, and the extra that each verb needs.
OF_EXTRAS = {"torch", "onnx", "onnxsim", "onnxscript"}
EXTRA_OF_VERB = {"export": "export", "train": "training"}


class VerbsOnUse(TyperGroup):
    """Adds the verbs of other packages (entry points, group `structvpr.commands`), each imported on use."""

    @staticmethod
    def _elsewhere() -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group="structvpr.commands")}

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *sorted(self._elsewhere())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if own := super().get_command(ctx, cmd_name):
            return own  # does not search the installed packages
        point = self._elsewhere().get(cmd_name)
        return get_command(point.load()) if point else None


app = typer.Typer(
    cls=VerbsOnUse,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(maps.app, name="map")
app.command("query")(query.query)
app.command("eval", cls=evaluate.ManyValues)(evaluate.evaluate)
app.command("bench")(bench.bench)
app.command("doctor")(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(sdk.__version__)
        raise typer.Exit


@app.callback()
def structvpr(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Visual place recognition on the device: a frame in, a place out.

    \b
    Example: build a map from your photographs, then localise another one
      structvpr map build model.onnx photos/ campus.places
      structvpr query model.onnx query.jpg --map campus.places
    """


def main(arguments: Sequence[str] | None = None, *, exit_when_done: bool = True) -> None:
    """Run the command. An error that the user can fix prints one sentence on stderr, and the exit code is 2.

    Args:
        arguments: its words; None for those of this process.
        exit_when_done: leave the process with exit code 0; False returns instead.
    """
    words = None if arguments is None else list(arguments)
    if threading.current_thread() is threading.main_thread():
        # Treat a service manager's stop as Ctrl-C, so that a verb removes what it was writing.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    listen_to_decoders()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name need not be Unicode
    try:
        app(args=words, prog_name="structvpr", standalone_mode=exit_when_done)
    except Error as error:
        sentence = str(error)
    except OSError as error:  # not foreseen by any module: a name that is too long, a folder without permission
        refused = f"{error.filename or 'a file'}: the system refuses it ({error.strerror or error})"
        sentence = f"{refused}; check the path and its permissions"
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        called = words if words is not None else sys.argv[1:]
        extra = EXTRA_OF_VERB.get(next(iter(called), ""))
        if package not in OF_EXTRAS or extra is None:
            raise
        remedy = f'`pip install "structvpr[{extra}]"`, or `pip install ".[{extra}]"` in a checkout'
        if package == "onnx" and called[:2] != ["export", "onnx"] and extra == "export":
            remedy = "`pip install onnx`"  # a device that builds engines needs no torch, which the extra brings
        sentence = f"the package {package} is not installed; run {remedy}"
    else:
        return
    typer.echo(f"structvpr: {sentence}", err=True)
    sys.exit(USER_ERROR)
