"""`corestream detect`: the detection alone, without a queue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from corestream.console import ExitStatus, err, fail
from corestream.folders import result_folders, work_on_each
from corestream.job_text import fact_line, report_text
from corestream.verify import verify_report
from pipeline.errors import ConfigurationError
from pipeline.report import Precision

ModelOption = Annotated[
    str, typer.Option(envvar="CORESTREAM_MODEL", help="A name (`corestream model list`) or a weights file.")
]
ModelDirOption = Annotated[
    Path, typer.Option(envvar="CORESTREAM_MODEL_DIR", help="Where `corestream model fetch` keeps weights.")
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        envvar="CORESTREAM_PRECISION",
        help="`fast`: bfloat16 in part, a little off; float32 where CPU or model cannot.",
    ),
]
DEFAULT_MODEL = "demo"
DEFAULT_MODEL_DIR = Path("models")


def detect(
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, readable=True, help="NIfTI volumes.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", file_okay=False, help="Where results go.")] = Path(
        "results"
    ),
    model: ModelOption = DEFAULT_MODEL,
    model_dir: ModelDirOption = DEFAULT_MODEL_DIR,
    precision: PrecisionOption = "float32",
    verify: Annotated[
        Path | None,
        typer.Option(
            metavar="REPORT",
            exists=True,
            dir_okay=False,
            help="A report.json beside its files: run it again in its precision, compare, write nothing.",
        ),
    ] = None,
) -> None:
    """Run the detection on volumes; each gets a folder of its own with map, picture and report.

    Exit status: 0 every volume has a result, 1 one was refused, 2 wrong arguments.
    With --verify: 0 everything is bit-identical, 1 something differs, 2 it cannot be compared.
    """
    if verify is not None:
        verify_report(verify, files, model, model_dir)
        return
    from processor.detect import detect_scan, load_detector  # noqa: PLC0415 - TensorFlow takes seconds
    from processor.models import resolve_model  # noqa: PLC0415
    from processor.precision import usable  # noqa: PLC0415

    folders = result_folders(files, output)
    try:
        chosen = resolve_model(model, model_dir)
        if reason := usable(precision, chosen).reason:
            err.print(f"float32 instead of {precision}. {reason}", markup=False)
        with err.status(f"loading the network {model}"):
            detector = load_detector(chosen, precision)
    except ConfigurationError as error:
        fail(str(error), ExitStatus.USAGE)

    def work(path: Path, folder: Path) -> str:
        detect_scan(path, folder, detector, model=chosen, job_id=None, scan_id=None)
        report = json.loads((folder / "report.json").read_bytes())
        return "\n".join((report_text(report), fact_line("files", f"{folder}/")))

    work_on_each(files, folders, "detecting", work)
