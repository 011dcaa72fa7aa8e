"""Where the commands that work on files put what they make."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from corestream.console import ExitStatus, fail


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
