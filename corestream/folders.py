"""The commands that work on files: a folder for what they make of each, and a word on how it went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import typer
from rich.markup import escape

from corestream.console import ExitStatus, err, fail, out
from pipeline.errors import ScanRefusedError


def result_folders(files: Sequence[Path], output: Path) -> list[Path]:
    """Return a folder for each volume, named after it; ends the command where two would share one."""
    folders = [output / path.name.removesuffix(".gz").removesuffix(".nii") for path in files]
    for number, folder in enumerate(folders):
        if folder in folders[:number]:
            fail(
                f"Expected volumes of different names, received two whose results would go to {folder}. "
                "Run them one by one with different -o.",
                ExitStatus.USAGE,
            )
    return folders


def work_on_each(
    files: Sequence[Path], folders: Sequence[Path], doing: str, work: Callable[[Path, Path], str]
) -> None:
    """Work on one volume after the other; one that is refused leaves no folder and does not stop the others.

    Args:
        files: Volumes.
        folders: As `result_folders` gives them.
        doing: Shown while it is done, before the file's name.
        work: Makes the files of a result from a volume and a folder; returns what to say, as markup.

    Raises:
        typer.Exit: A volume was refused, or could not be read.
    """
    refused = 0
    for path, folder in zip(files, folders, strict=True):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with err.status(f"{doing} {path.name}"):
                said = work(path, folder)
        except ScanRefusedError as error:
            refused += 1
            if not any(folder.iterdir()):
                folder.rmdir()
            err.print(f"{path}: {error}", style="red", markup=False)
        except OSError as error:
            fail(f"{path}: {error}", ExitStatus.USAGE)
        else:
            out.print(f"\n[bold]{escape(str(path))}[/]\n{said}")
    if refused:
        raise typer.Exit(ExitStatus.FAILED)
