"""`corestream model`: which networks there are, what is known of them, how to get them."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.markup import escape

from corestream.console import ExitStatus, err, fail, out
from corestream.detect import DEFAULT_MODEL_DIR, ModelDirOption
from corestream.download import DownloadError, download
from pipeline.errors import ConfigurationError
from processor.models import (
    DEMO,
    GIANCARDO2020,
    GIANCARDO2020_SHA256,
    GIANCARDO2020_SIZE_BYTES,
    GIANCARDO2020_URL,
    MODEL_NAMES,
    giancardo2020_path,
    resolve_model,
)

model = typer.Typer(
    help="The networks: which there are, what is known of them, how to get them.", no_args_is_help=True
)


@model.command("list")
def list_models(model_dir: ModelDirOption = DEFAULT_MODEL_DIR) -> None:
    """Say which models there are, and which are here."""
    for name in MODEL_NAMES:
        try:
            found = resolve_model(name, model_dir)
        except ConfigurationError as error:
            out.print(f"[bold]{name:<14}[/] [yellow]not here[/]  {escape(str(error))}")
        else:
            out.print(f"[bold]{name:<14}[/] [green]here[/]      {escape(found.description)}")
    out.print("The path of a file of weights is a model too.", style="dim")


@model.command("show")
def show_model(
    name: Annotated[str, typer.Argument(help="A name, or the path of a file of weights.")],
    model_dir: ModelDirOption = DEFAULT_MODEL_DIR,
) -> None:
    """Say all that is known of a model."""
    try:
        found = resolve_model(name, model_dir)
    except ConfigurationError as error:
        fail(str(error))
    estimate = found.core_estimate
    facts = {
        "name": found.name,
        "file": str(found.path),
        "SHA-256": found.sha256,
        "what": found.description,
        "trained on": found.trained_on,
        "estimate": estimate.unit if estimate.rmse is None else f"{estimate.unit}, RMSE {estimate.rmse}",
        "note": estimate.note,
        "map": "no floor is established"
        if found.saliency_floor is None
        else f"says nothing below a raw maximum of {found.saliency_floor:g}",
    }
    for label, value in facts.items():
        out.print(f"[dim]{label:<11}[/] {escape(value)}")


@model.command("fetch")
def fetch_model(
    name: Annotated[str, typer.Argument(help=f"Only {GIANCARDO2020} has to be fetched.")],
    model_dir: ModelDirOption = DEFAULT_MODEL_DIR,
    url: Annotated[
        str, typer.Option(help="Another place that has the same file; it is checked all the same.")
    ] = GIANCARDO2020_URL,
) -> None:
    """Download the published weights, and keep them if they are exactly those.

    They carry no licence, so they do not ship with corestream: whether you may use them is yours to settle.
    """
    if name == DEMO:
        out.print("The demo model ships with corestream: there is nothing to fetch.")
        return
    if name != GIANCARDO2020:
        fail(f"Expected {GIANCARDO2020}, received {name!r}: no other model can be fetched.", ExitStatus.USAGE)
    target = giancardo2020_path(model_dir)
    try:
        with err.status(f"downloading {url}"):
            asyncio.run(download(url, target, GIANCARDO2020_SHA256, max_bytes=GIANCARDO2020_SIZE_BYTES))
    except (DownloadError, OSError) as error:
        fail(str(error))
    out.print(f"[green]{escape(str(target))}[/], SHA-256 as published.")
    out.print(f"Use it with CORESTREAM_MODEL={GIANCARDO2020} and CORESTREAM_MODEL_DIR={model_dir.absolute()}")
