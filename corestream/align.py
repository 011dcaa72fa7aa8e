"""`corestream align`: the alignment alone, without a network and without a queue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from corestream.console import ExitStatus, err, fail, out
from corestream.folders import result_folders
from pipeline.errors import ScanRefusedError


def align(
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, readable=True, help="NIfTI volumes.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", file_okay=False, help="Where results go.")] = Path(
        "aligned"
    ),
) -> None:
    """Align head CTs to the network's grid; each gets a folder with the scan, a picture and the figures.

    Exit status: 0 every volume is aligned, 1 one was refused, 2 wrong arguments.
    """
    from processor.align_scan import align_scan  # noqa: PLC0415 - SciPy takes a second

    refused = 0
    for path, folder in zip(files, result_folders(files, output), strict=True):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with err.status(f"aligning {path.name}"):
                report = align_scan(path, folder)
        except ScanRefusedError as error:
            refused += 1
            if not any(folder.iterdir()):
                folder.rmdir()
            err.print(f"{path}: {error}", style="red", markup=False)
        except OSError as error:
            fail(f"{path}: {error}", ExitStatus.USAGE)
        else:
            how = report.alignment.method if report.alignment.applied else "already on the grid, not touched"
            figures = ", ".join(
                f"{name} {value:g}" for name, value in (report.alignment.quality or {}).items()
            )
            out.print(f"\n[bold]{escape(str(path))}[/]")
            for name, value in (
                ("alignment", how),
                ("quality", figures),
                ("", report.orientation_note),
                *(("warning", warning) for warning in report.warnings),
                ("files", f"{folder}/"),
                ("", report.research_use_only),
            ):
                out.print(f"  [dim]{name:<9}[/] {escape(value)}")
    if refused:
        raise typer.Exit(ExitStatus.FAILED)
