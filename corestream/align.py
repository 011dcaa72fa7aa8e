"""`corestream align`: the alignment alone, without a network and without a queue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from corestream.folders import result_folders, work_on_each

if TYPE_CHECKING:  # SciPy takes a second
    from processor.align_scan import AlignmentReport


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

    def work(path: Path, folder: Path) -> str:
        return _text(align_scan(path, folder), folder)

    work_on_each(files, result_folders(files, output), "aligning", work)


def _text(report: AlignmentReport, folder: Path) -> str:
    alignment = report.alignment
    lines = (
        ("alignment", alignment.method if alignment.applied else "already on the grid, not touched"),
        ("quality", ", ".join(f"{name} {value:g}" for name, value in (alignment.quality or {}).items())),
        ("", report.orientation_note),
        *(("warning", warning) for warning in report.warnings),
        ("files", f"{folder}/"),
        ("", report.research_use_only),
    )
    return "\n".join(f"  [dim]{name:<9}[/] {escape(value)}" for name, value in lines)
