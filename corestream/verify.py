"""`corestream detect --verify`: does a detection give again what its report says?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from pydantic import ValidationError

from corestream.console import ExitStatus, err, fail, out
from pipeline.errors import ConfigurationError, ScanRefusedError
from pipeline.report import Report

if TYPE_CHECKING:
    from processor.models import Model
    from processor.verify import Comparison


def verify_report(report_path: Path, files: Sequence[Path], model: str, model_dir: Path) -> None:
    """Run a report's detection again, say what differs, and end the command with 1 if anything does.

    Args:
        report_path: The report, with the files of its result beside it.
        files: The scan it was made of.
        model: Name or path; where it is not the report's, that one is looked for by its name.
        model_dir: Where fetched weights are.
    """
    from processor.detect import load_detector  # noqa: PLC0415 - TensorFlow takes seconds
    from processor.verify import beside, verify  # noqa: PLC0415

    if len(files) != 1:
        fail(f"Expected one scan to verify a report of, received {len(files)}.", ExitStatus.USAGE)
    if not (saliency := beside(report_path, "saliency.nii.gz")).is_file():
        fail(
            f"Expected the map of the result at {saliency}, beside its report; received none. "
            "Put the files of the result into one folder under the names they were written or downloaded by.",
            ExitStatus.USAGE,
        )
    try:
        report = Report.model_validate_json(report_path.read_bytes())
        chosen = _reported_model(report, model, model_dir)
        with err.status("detecting again"):
            detector = load_detector(chosen, report.precision)
            comparison = verify(report_path, files[0], detector, chosen)
    except ValidationError as error:
        fail(
            f"Expected a report of corestream in {report_path}, received something else "
            f"({error.error_count()} errors). Give the report.json of a result.",
            ExitStatus.USAGE,
        )
    except (ConfigurationError, OSError) as error:
        fail(str(error), ExitStatus.USAGE)
    except ScanRefusedError as error:
        fail(f"{files[0]}: {error}")
    out.print(comparison_text(comparison), markup=False)
    if not comparison.identical:
        raise typer.Exit(ExitStatus.FAILED)


def _reported_model(report: Report, model: str, model_dir: Path) -> Model:
    """Return the model of a report, which is known by its hash, never by its name.

    Raises:
        ConfigurationError: It is not there, or has changed.
    """
    from processor.models import MODEL_NAMES, resolve_model  # noqa: PLC0415 - comes with nibabel

    chosen = resolve_model(model, model_dir)
    if chosen.sha256 != report.model.sha256 and report.model.name in MODEL_NAMES:
        chosen = resolve_model(report.model.name, model_dir)
    if chosen.sha256 != report.model.sha256:
        raise ConfigurationError(
            f"Expected the model of the report, {report.model.name} with SHA-256 {report.model.sha256}, "
            f"received {chosen.path} with {chosen.sha256}. Give the weights that made the report by --model."
        )
    return chosen


def comparison_text(comparison: Comparison) -> str:
    """Return in words how a new run compares with a result, a line a fact."""
    names = ", ".join(comparison.compared)
    if comparison.identical:
        lines = [f"Bit-identical: the report but for its timings, and {names}."]
    else:
        lines = [f"Not identical. The number differs by {comparison.number:.3g}."]
        lines += [f"{name}: largest difference {value:.3g}." for name, value in comparison.maps.items()]
        if comparison.fields:
            lines.append(f"Parts of the report that differ: {', '.join(comparison.fields)}.")
        if comparison.files:
            lines.append(f"Files of other bytes: {', '.join(comparison.files)}.")
    if not comparison.same_input:
        lines.append("The scan's file has other bytes than the reported one; what it gave was compared.")
    if not comparison.same_software:
        lines.append("The versions of the software are not all those of the report.")
    return "\n".join(lines)
