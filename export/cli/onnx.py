"""`structvpr export onnx`: a checkpoint becomes an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .tables import print_facts

__all__ = ["onnx_command"]


def onnx_command(
    checkpoint: Annotated[Path, typer.Argument(help="File written by `structvpr train`.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="ONNX file to write.", show_default=False)],
    frames: Annotated[
        Path | None,
        typer.Option(help="Folder of images to verify on (the first 32); default: 7 synthetic frames."),
    ] = None,
    no_simplify: Annotated[bool, typer.Option("--no-simplify", help="Do not simplify the graph by onnxsim.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one line of JSON.")] = False,
) -> None:
    """Export a checkpoint to ONNX and verify the file against PyTorch.

    The network takes frames as uint8 (1, h, w, 3) RGB and gives the raw descriptor. Mean and std are in the graph, the
    model contract in the metadata. The file is written only if ONNX Runtime's descriptors equal PyTorch's (1 - cosine
    <= 1e-6, largest difference <= 1e-4).

    \b
    Example: from public ImageNet weights to a model that any device runs
      structvpr train init --backbone efficientnet_lite0 --weights WEIGHTS.pth -o start.pt
      structvpr export onnx start.pt -o model.onnx
    """
    from ..from_checkpoint.to_onnx import export_onnx

    report = export_onnx(checkpoint, output, frames, simplify=not no_simplify)
    if as_json:
        typer.echo(report.to_json())
        return
    contract, agreement = report.contract, report.agreement
    print_facts(
        {
            "written": f"{report.path}, {report.size_bytes / 1e6:.1f} MB, sha256 {report.sha256[:12]}…",
            "model": f"{contract.name}, {contract.height} x {contract.width} px -> {contract.descriptor_dim}-d",
            "identity": contract.identity,
            "1 - cosine": f"{agreement.cosine_gap:.1e} (against PyTorch, {agreement.num_frames} frames)",
            "largest difference": f"{agreement.max_abs_difference:.1e}",
            "operators": ", ".join(f"{count} {name}" for name, count in report.operators.items()),
            "for TensorRT": ", ".join(report.targets),
            "simplified": "yes, by onnxsim" if report.simplified else f"no: {report.note}",
        }
    )
    for finding in report.findings:
        typer.echo(f"  {finding}")
