"""The verbs of `structvpr train` that make label maps."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from sdk import FrameError
from sdk.arrays import Triple
from sdk.cli.console import progress_bars

__all__ = ["espnetv2_command", "labels_command"]

NAMED = 5  # unreadable images that the last message names


def labels_command(
    images_folder: Annotated[Path, typer.Argument(help="Folder of images, with subfolders.", show_default=False)],
    output_folder: Annotated[Path, typer.Argument(help="Folder for the label maps.", show_default=False)],
    network: Annotated[Path, typer.Option(help="The segmentation network, an ONNX file.", show_default=False)],
    label_set: Annotated[
        str | None,
        typer.Option(help="cityscapes19, ade20k150, ade20k150_png or camvid11; default: from the network's metadata."),
    ] = None,
    height: Annotated[int | None, typer.Option(help="Height of the input, px, if the network accepts any.")] = None,
    width: Annotated[int | None, typer.Option(help="Width of the input, px, if the network accepts any.")] = None,
    scale: Annotated[float | None, typer.Option(help="The input is (pixel * scale - mean) / std.")] = None,
    mean: Annotated[Triple | None, typer.Option(help="See --scale. One number per colour.")] = None,
    std: Annotated[Triple | None, typer.Option(help="See --scale. One number per colour.")] = None,
    colour: Annotated[str | None, typer.Option(help="Channel order of the input: rgb or bgr; default: rgb.")] = None,
    input_layout: Annotated[
        str | None, typer.Option(help="Layout of the input, nchw or nhwc, if its shape is ambiguous.")
    ] = None,
    output_name: Annotated[str | None, typer.Option(help="Name of the output, if there are several.")] = None,
    output: Annotated[
        str | None, typer.Option(help="Layout of the output, nchw, nhwc or ids, if its shape is ambiguous.")
    ] = None,
) -> None:
    """Label every image of a folder with a segmentation network. The segmentation branch trains on these label maps.

    Writes a palette PNG for each image, under the same relative path, and labels.json. If the network gives logits or
    probabilities, it also writes a confidence per pixel. Run the same command again to continue an interrupted run.

    \b
    Example: with ESPNetv2, see `structvpr train espnetv2 --help`
      structvpr train labels photos/ labels/ --network espnetv2.onnx
    Example: with your own network, which takes float32 with ImageNet's mean and std
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
    weights: Annotated[
        Path, typer.Argument(help="EdgeNets' weights, espnetv2_s_2.0_city_1024x512.pth.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="ONNX file to write.", show_default=False)],
    height: Annotated[int, typer.Option(help="Height of the input, px, a multiple of 16.")] = 384,
    width: Annotated[int, typer.Option(help="Width of the input, px, a multiple of 16.")] = 512,
) -> None:
    """Export a street segmentation network (ESPNetv2, Cityscapes classes) from its public weights.

    Choose an input size with the aspect ratio of your images. The weights (3.4 MB, MIT licence) are in
    github.com/sacmehta/EdgeNets, model/segmentation/model_zoo/espnetv2.

    \b
    Example
      structvpr train espnetv2 espnetv2_s_2.0_city_1024x512.pth -o espnetv2.onnx
    """
    from ..networks.espnetv2_export import export_espnetv2

    export_espnetv2(weights, output, height, width)
    typer.echo(f"written {output}: ESPNetv2, {height} x {width} px, cityscapes19")
