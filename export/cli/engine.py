"""`structvpr export engine`: a model becomes a TensorRT engine, and is judged."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdk.cli.console import print_json, progress_bars

from ..gate.options import GateOptions
from .gate_options import BELOW_THRESHOLDS, Json, Keep, with_gate_options
from .tables import print_facts, print_verdict

if TYPE_CHECKING:
    from ..engine.gated import GatedEngine

__all__ = ["engine_command"]


@with_gate_options
def engine_command(
    model: Annotated[
        Path,
        typer.Argument(help="File of `structvpr export onnx` or `structvpr export precision`.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Engine to write.", show_default=False)],
    gate: GateOptions,
    reference: Annotated[
        Path | None, typer.Option(help="Model in fp32 to judge against; default: MODEL, if it is in fp32.")
    ] = None,
    keep: Keep = False,
    workspace: Annotated[int, typer.Option(min=1, help="Memory that kernels may use while they run, MiB.")] = 1024,
    timing_cache: Annotated[
        Path | None, typer.Option("--timing-cache", help="Folder for timings; default: the user's cache folder.")
    ] = None,
    dla: Annotated[int | None, typer.Option(min=0, help="DLA core to run on; default: the GPU alone.")] = None,
    compute_capabilities: Annotated[
        str | None,
        typer.Option("--for", help="TensorRT-RTX: build ahead for compute capabilities such as 8.6,8.9; needs no GPU."),
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="tensorrt or tensorrt_rtx; default: the first that is installed.")
    ] = None,
    optimization_level: Annotated[
        int | None,
        typer.Option("--optimization-level", min=0, max=5, help="0: fast build, 5: fast engine; default: TensorRT's."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Build a TensorRT engine on the device that will run it, and judge it against fp32.

    An engine works with one GPU and one version of TensorRT. OUTPUT.json says which; copy both files together.

    Before anything is written, the engine and the fp32 model in ONNX Runtime describe the same frames. If the engine
    does not pass, nothing is written and the exit code is 1. OUTPUT.json keeps the figures.

    Engines built with --for are not judged: run `structvpr export verify` where the GPU is. The first build takes
    minutes. Timings are kept, so later builds are faster.

    \b
    Example: on a Jetson, from the model in fp16
      structvpr export engine model.fp16.onnx -o model.engine --reference model.onnx --frames photos/
    \b
    Example: TensorRT-RTX on a machine without a GPU, for two generations of GPUs; then judged on one of them
      structvpr export engine model.onnx -o model.engine --for 8.6,8.9
      structvpr export verify model.onnx model.engine --frames photos/
    """
    from ..engine.build import BuildSettings
    from ..engine.gated import build_gated

    capabilities = tuple(word.strip() for word in (compute_capabilities or "").split(",") if word.strip())
    settings = BuildSettings(workspace, timing_cache, dla, capabilities, runtime, optimization_level)
    with progress_bars() as tell:
        result = build_gated(model, output, settings, gate, reference=reference, keep=keep, progress=tell)
    verdict = result.verdict
    if as_json:
        print_json(
            {
                "written": None if result.sidecar is None else str(output),
                "sidecar": None if result.sidecar is None else asdict(result.sidecar),
                "gate": None if verdict is None else verdict.to_record(),
            }
        )
    else:
        _print(result, model, output)
    if verdict is not None and not verdict.passed:
        raise typer.Exit(BELOW_THRESHOLDS)


def _print(result: GatedEngine, model: Path, output: Path) -> None:
    sidecar = result.sidecar
    if result.verdict is not None:
        print_verdict(result.verdict)
    if sidecar is None:
        typer.echo(f"{output} is not written; --keep writes it anyway")
        return
    capabilities = ", ".join(sidecar.compute_capabilities)
    print_facts(
        {
            "written": f"{output}, {sidecar.engine_bytes / 1e6:.1f} MB, and {output.name}.json",
            "model": f"{sidecar.contract.name}, {sidecar.contract.precision}",
            "runs on": f"{sidecar.gpu_name or 'GPUs'} of compute capability {capabilities}"
            + ("" if sidecar.dla_core is None else f", DLA core {sidecar.dla_core}"),
            "with": f"{sidecar.runtime} {sidecar.runtime_version}",
            "built in": f"{sidecar.build_s:.1f} s",
        }
    )
    if result.verdict is None:
        typer.echo(f"not judged: run `structvpr export verify {model} {output} --frames PHOTOS` where the GPU is")
