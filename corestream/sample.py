"""`corestream sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from corestream.console import ExitStatus, err, fail, out

DEFAULT_COUNT = 4


def sample(
    directory: Annotated[Path, typer.Argument(file_okay=False, help="Where to write.")],
    count: Annotated[int, typer.Option(min=1, help="How many scans.")] = DEFAULT_COUNT,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the first; the same seed gives the same scan.")
    ] = None,
) -> None:
    """Write synthetic, aligned CT angiograms with a known planted lesion (every fourth without).

    truth.json beside them says what was planted.
    """
    from processor.synthetic.samples import FIRST_SAMPLE_SEED, write_samples  # noqa: PLC0415 - takes a second

    try:
        with err.status(f"making {count} of synthetic scans"):
            paths = write_samples(directory, count, FIRST_SAMPLE_SEED if seed is None else seed)
    except OSError as error:
        fail(f"Expected to write into {directory}, but {error.strerror}.", ExitStatus.USAGE)
    for path in (*paths, directory / "truth.json"):
        out.print(str(path), markup=False)
