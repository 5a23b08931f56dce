"""The verbs of `structvpr export`."""

from __future__ import annotations

import typer

from .engine import engine_command
from .onnx import onnx_command
from .precision import precision_command
from .verify import verify_command

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@app.callback()
def export() -> None:
    """Turn a trained checkpoint into the files that a device runs, and judge each before it is used.

    \b
    Example: from a checkpoint to an engine in fp16; run the last two on the device
      structvpr export onnx student.pt -o model.onnx
      structvpr export precision model.onnx -o model.fp16.onnx --precision fp16 --frames photos/
      structvpr export engine model.fp16.onnx -o model.engine --reference model.onnx --frames photos/
      structvpr export verify model.onnx model.engine --frames photos/
    """


app.command("onnx")(onnx_command)
app.command("precision")(precision_command)
app.command("engine")(engine_command)
app.command("verify")(verify_command)
