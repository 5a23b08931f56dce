"""The verbs of `structvpr train` that make label maps."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from sdk import FrameError
from sdk.cli.console import progress_bars

__all__ = ["espnetv2_command", "labels_command"]

Triple = tuple[float, float, float]
NAMED = 5  # images that could not be read, named at the end


def labels_command(
    images_folder: Annotated[Path, typer.Argument(help="Images, in subfolders too.", show_default=False)],
    output_folder: Annotated[Path, typer.Argument(help="Where the label maps go.", show_default=False)],
    network: Annotated[Path, typer.Option(help="ONNX segmentation network.", show_default=False)],
    label_set: Annotated[
        str | None,
        typer.Option(help="cityscapes19, ade20k150, ade20k150_png or camvid11; default: the network's word."),
    ] = None,
    height: Annotated[int | None, typer.Option(help="Rows of the network's input, px, if it takes any.")] = None,
    width: Annotated[int | None, typer.Option(help="Columns of the network's input, px, if it takes any.")] = None,
    scale: Annotated[float | None, typer.Option(help="The input is (pixel * scale - mean) / std.")] = None,
    mean: Annotated[Triple | None, typer.Option(help="See --scale; one number a colour.")] = None,
    std: Annotated[Triple | None, typer.Option(help="See --scale; one number a colour.")] = None,
    colour: Annotated[str | None, typer.Option(help="Order of the input's colours: rgb or bgr; default: rgb.")] = None,
    input_layout: Annotated[str | None, typer.Option(help="nchw or nhwc, where shapes leave it open.")] = None,
    output_name: Annotated[str | None, typer.Option(help="Which output, where there are several.")] = None,
    output: Annotated[str | None, typer.Option(help="nchw, nhwc or ids, where shapes leave it open.")] = None,
) -> None:
    """Label every image of a folder with a segmentation network: what the seg branch is trained on.

    Writes a palette PNG beside each image's relative path, its confidence where the network gives logits or
    probabilities, and labels.json. An interrupted run goes on where it stopped.

    \b
    Example: with ESPNetv2, see `structvpr train espnetv2 --help`
      structvpr train labels photos/ labels/ --network espnetv2.onnx
    Example: with a network of your own, which takes float32 as ImageNet's do
      structvpr train labels photos/ labels/ --network segformer.onnx --label-set ade20k150 \\
        --mean 123.675 116.28 103.53 --std 58.395 57.12 57.375
    """
    from ..labels.label_maps import label_images
    from ..labels.network_options import NetworkOptions
    from ..labels.segmentation_network import SegmentationNetwork

    options = NetworkOptions(
        label_set=label_set,
        height=height,
        width=width,
        input_layout=input_layout,
        scale=scale,
        mean=mean,
        std=std,
        colour=colour,
        output_name=output_name,
        output=output,
    )
    segmenter = SegmentationNetwork(network, options)
    started = time.perf_counter()
    with progress_bars() as tell:
        report = label_images(
            images_folder, output_folder, segmenter, progress=lambda done, total: tell("labelling", done, total)
        )
    seconds = time.perf_counter() - started
    words = [f"{report.made} label maps"]
    if report.made:
        words.append(f"{seconds / report.made * 1e3:.0f} ms each")
    if report.mean_confidence is not None:
        words.append(f"mean confidence {report.mean_confidence:.2f}")
    if report.kept:
        words.append(f"{report.kept} kept from before")
    typer.echo(f"{output_folder}: {', '.join(words)}")
    if report.failed:
        more = f"; and {len(report.failed) - NAMED} more, see labels.json" if len(report.failed) > NAMED else ""
        raise FrameError(f"{len(report.failed)} images have no label map: {'; '.join(report.failed[:NAMED])}{more}")


def espnetv2_command(
    weights: Annotated[Path, typer.Argument(help="espnetv2_s_2.0_city_1024x512.pth of EdgeNets.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="ONNX file to write.", show_default=False)],
    height: Annotated[int, typer.Option(help="Rows of its input, px, a multiple of 16.")] = 384,
    width: Annotated[int, typer.Option(help="Columns of its input, px, a multiple of 16.")] = 512,
) -> None:
    """Make a street segmentation network (ESPNetv2, Cityscapes classes) of its public weights.

    Choose a size of your images' proportions. Take the weights (3.4 MB, MIT) from
    github.com/sacmehta/EdgeNets, model/segmentation/model_zoo/espnetv2.

    \b
    Example
      structvpr train espnetv2 espnetv2_s_2.0_city_1024x512.pth -o espnetv2.onnx
    """
    from ..networks.espnetv2_export import export_espnetv2

    export_espnetv2(weights, output, height, width)
    typer.echo(f"written {output}: ESPNetv2, {height} x {width} px, cityscapes19")
