"""`structvpr export engine`: a TensorRT engine, built where it will run, and whether it may be trusted."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdk import ContractError, EngineError, MapError, ModelContract, open_backend
from sdk.cli.console import print_json, progress_bars

from .gate_options import (
    BELOW_THRESHOLDS,
    DatabaseFolder,
    Dataset,
    Frames,
    Json,
    MaxRecallDrop,
    MinCosine,
    MinTop1Agreement,
    PositiveDistThreshold,
    QueriesFolder,
    choose_thresholds,
    print_verdict,
    require_places,
)

if TYPE_CHECKING:
    from sdk.backends.engine_sidecar import EngineSidecar

    from ..gate.decision import Verdict

__all__ = ["engine_command"]


class _NotPassedError(Exception):
    """Leaves the build before anything is written."""


def engine_command(
    model: Annotated[
        Path,
        typer.Argument(help="File of `structvpr export onnx` or `structvpr export precision`.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Engine to write.", show_default=False)],
    frames: Frames = None,
    dataset: Dataset = None,
    database_folder: DatabaseFolder = None,
    queries_folder: QueriesFolder = None,
    positive_dist_threshold: PositiveDistThreshold = 25.0,
    reference: Annotated[
        Path | None, typer.Option(help="The model in fp32 to judge against; default: MODEL, if that is in fp32.")
    ] = None,
    min_cosine: MinCosine = None,
    min_top1_agreement: MinTop1Agreement = None,
    max_recall_drop: MaxRecallDrop = None,
    no_gate: Annotated[bool, typer.Option("--no-gate", help="Write the engine without judging it.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Write the engine even if it does not pass.")] = False,
    workspace: Annotated[int, typer.Option(min=1, help="Memory that kernels may use while they run, MiB.")] = 1024,
    timing_cache: Annotated[
        Path | None, typer.Option("--timing-cache", help="Folder of timings; default: the user's cache folder.")
    ] = None,
    dla: Annotated[int | None, typer.Option(min=0, help="DLA core to run on; default: the GPU alone.")] = None,
    compute_capabilities: Annotated[
        str | None,
        typer.Option("--for", help="TensorRT-RTX: compute capabilities by comma, such as 8.6,8.9; needs no GPU."),
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="tensorrt or tensorrt_rtx; default: the first that is installed.")
    ] = None,
    optimization_level: Annotated[
        int | None, typer.Option("--optimization-level", min=0, max=5, help="0: built fast, 5: runs fast.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build a TensorRT engine on the device that will run it, and judge it against fp32.

    An engine is good for one GPU and one version of TensorRT; OUTPUT.json beside it says which, and is copied with it.
    The engine is asked about the frames next to ONNX Runtime's fp32 before it is written: if it does not pass, nothing
    is written and the exit code is 1. What the gate measured is kept in OUTPUT.json. Engines built ahead, by --for, are
    not judged, and OUTPUT.json never holds a result for them: `structvpr export verify` prints one where the GPU is.
    The first build takes minutes; timings are kept, so that the next is faster.

    \b
    Example: on a Jetson, from the model in fp16
      structvpr export engine model.fp16.onnx -o model.engine --reference model.onnx --frames photos/
    \b
    Example: TensorRT-RTX on a machine without a GPU, for two generations of GPUs; judged where they are
      structvpr export engine model.onnx -o model.engine --for 8.6,8.9
      structvpr export verify model.onnx model.engine --frames photos/
    """
    from ..gate.decision import gate, require_enough
    from ..gate.frames import read_gate_frames, require_readable

    data = read_gate_frames(frames, dataset, database_folder, queries_folder, positive_dist_threshold)
    capabilities = tuple(word.strip() for word in (compute_capabilities or "").split(",") if word.strip())
    if no_gate:
        data = None
    elif data is None and not capabilities:
        raise MapError(
            "no frames to judge the engine on were named, expected --frames, --dataset, or --database_folder and "
            "--queries_folder; add them, or --no-gate to take the engine untested"
        )
    if data is not None and capabilities:
        raise MapError(
            "--for compiles ahead for other machines, and frames to judge on were given, expected one of both; build "
            "without frames, and judge with `structvpr export verify` where the GPU is"
        )
    require_places(data, max_recall_drop)
    choose_thresholds("fp32", min_cosine, min_top1_agreement, max_recall_drop)  # says now what is out of range
    if reference is not None and _same_file(reference, output):
        raise EngineError(f"{output}: is also --reference, expected another file to write; choose another path")
    from ..engine.from_onnx import export_engine

    verdict: Verdict | None = None
    judge = None
    if data is not None:
        require_enough(data)
        against, precision = _reference(model, reference)
        thresholds = choose_thresholds(precision, min_cosine, min_top1_agreement, max_recall_drop)

        def judge(engine: Path) -> dict[str, Any]:
            nonlocal verdict
            verdict = gate(against, engine, data, thresholds, tell)
            if not verdict.passed and not keep:
                raise _NotPassedError
            return verdict.to_record()

    sidecar = None
    with progress_bars() as tell, suppress(_NotPassedError):
        if data is not None:
            require_readable(data, tell)
        sidecar = export_engine(
            model,
            output,
            workspace_mib=workspace,
            timing_cache=timing_cache,
            dla_core=dla,
            compute_capabilities=capabilities,
            runtime=runtime,
            optimization_level=optimization_level,
            judge=judge,
            progress=tell,
        )
    _report(model, output, sidecar, verdict, as_json)
    if verdict is not None and not verdict.passed:
        raise typer.Exit(BELOW_THRESHOLDS)


def _reference(model: Path, reference: Path | None) -> tuple[Path, str]:
    """What to judge against, and the precision that the engine will have, which is the model's.

    What the gate would refuse is refused here already, before the minutes of the build.
    """
    contract = _contract(model)
    precision = contract.precision
    if reference is None and precision != "fp32":
        raise ContractError(
            f"{model}: is in {precision}, expected the model in fp32 to judge the engine against; name it by "
            "--reference, or leave the judging out by --no-gate"
        )
    if reference is not None:
        against = _contract(reference)
        if against.identity != contract.identity:
            raise ContractError(
                f"{reference}: is of another network than {model} ({against.name}, identity {against.identity[:12]}…, "
                f"and {contract.name}, {contract.identity[:12]}…), expected the model in fp32 that it was made "
                "from; give that"
            )
        if against.precision != "fp32":
            raise ContractError(
                f"{reference}: is in {against.precision}, expected the model in fp32 to judge against; give the file "
                "that `structvpr export onnx` wrote"
            )
    return reference or model, precision


def _same_file(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # one is not there
        return False


def _contract(model: Path) -> ModelContract:
    backend = open_backend(model)
    backend.close()
    return backend.contract


def _report(model: Path, output: Path, sidecar: EngineSidecar | None, verdict: Verdict | None, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "written": None if sidecar is None else str(output),
                "sidecar": None if sidecar is None else asdict(sidecar),
                "gate": None if verdict is None else verdict.to_record(),
            }
        )
        return
    if verdict is not None:
        print_verdict(verdict)
    if sidecar is None:
        typer.echo(f"{output} is not written; --keep writes it all the same")
        return
    capabilities = ", ".join(sidecar.compute_capabilities)
    lines = {
        "written": f"{output}, {sidecar.engine_bytes / 1e6:.1f} MB, and {output.name}.json",
        "model": f"{sidecar.contract.name}, {sidecar.contract.precision}",
        "runs on": f"{sidecar.gpu_name or 'GPUs'} of compute capability {capabilities}"
        + ("" if sidecar.dla_core is None else f", DLA core {sidecar.dla_core}"),
        "with": f"{sidecar.runtime} {sidecar.runtime_version}",
        "built in": f"{sidecar.build_s:.1f} s",
    }
    for label, text in lines.items():
        typer.echo(f"{label:<20}{text}")
    if verdict is None:
        typer.echo(f"not judged: run `structvpr export verify {model} {output} --frames PHOTOS` where the GPU is")
