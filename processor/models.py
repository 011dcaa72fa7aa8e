"""The models a scan can be given to, and what is known about each.

A model is a file of weights. What it is, is told by its SHA-256, never by its name: the published weights are
recognised wherever they lie, others may have a side-car (`NAME.json` beside `NAME.hdf5`) that describes
exactly these bytes, and any other file is a custom model of which nothing is known.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import ConfigurationError

DEMO = "demo"
GIANCARDO2020 = "giancardo2020"
MODEL_NAMES = (DEMO, GIANCARDO2020)
"""What `MODEL` may be beside a path."""

GIANCARDO2020_SHA256 = "fb8e3fdda73f28d2b3cc629fb72230380c95ccf1ecfcffcf759cce203d59ae6e"
GIANCARDO2020_SIZE_BYTES = 957_192
_COMMIT = "9cb8e4b4492e57eba95b927a8973f8b54a376e3c"
GIANCARDO2020_URL = (
    f"https://raw.githubusercontent.com/Luyaochen1/glabapp_deploy/{_COMMIT}/cta-core-detection-cpu/res/"
    "paper2020-cor-ord-exp1_weights.27-val_core_mse109.79.hdf5"
)

GIANCARDO2020_FLOOR: float | None = None
# Not founded: the rule gives 8.1e-05; 2 of 40 synthetic scans without lesion are above, and 2 of 40 with one.
# `python -m processor.training.floor --model giancardo2020`, 22 November 2026; see docs/detection.md.

_DEMO_PATH = Path(__file__).with_name("weights") / "demo.hdf5"


class EstimateFacts(BaseModel):
    """What is known about a model's number.

    Attributes:
        unit: In words where the makers do not state one.
        rmse: Root of the mean squared error on what the makers held out, in `unit`; None if unknown.
        note: What a reader must know to make sense of both.
    """

    model_config = ConfigDict(frozen=True)

    unit: str
    rmse: float | None
    note: str


class _SideCar(BaseModel):
    """What stands beside weights; fields that are not listed here are for readers of the file."""

    model_config = ConfigDict(frozen=True)

    name: str
    sha256: str
    description: str
    trained_on: str
    core_estimate: EstimateFacts
    trained_range: tuple[float, float] | None = None
    saliency_floor: float | None = None


@dataclass(frozen=True)
class Model:
    """A file of weights, and what is known about it.

    Attributes:
        path: The file.
        sha256: Of the file, hexadecimal.
        name: `demo`, `giancardo2020`, the side-car's, or `custom`.
        description: What it is and where it comes from.
        trained_on: On what.
        core_estimate: About its number.
        trained_range: Smallest and largest core it was trained on, in the unit of its number; None where its
            makers do not say.
        saliency_floor: Raw maximum below which its map says nothing; None where none is established.
        fast: Whether the fast precision has been compared with float32 for these weights, and is near.
    """

    path: Path
    sha256: str
    name: str
    description: str
    trained_on: str
    core_estimate: EstimateFacts
    trained_range: tuple[float, float] | None = None
    saliency_floor: float | None = None
    fast: bool = False


def giancardo2020_path(model_dir: Path) -> Path:
    """Return where the published weights are kept once fetched."""
    return model_dir / f"{GIANCARDO2020}.hdf5"


def resolve_model(name_or_path: str, model_dir: Path) -> Model:
    """Find a model and say what it is.

    Args:
        name_or_path: One of `MODEL_NAMES`, or the path of a file of weights.
        model_dir: Where fetched models are kept.

    Returns:
        Model: Its file exists; whether it holds weights is known when they are loaded.

    Raises:
        ConfigurationError: There is no such file, or it is not the one its name or side-car promises.
    """
    path = _find(name_or_path, model_dir)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if name_or_path == GIANCARDO2020 and sha256 != GIANCARDO2020_SHA256:
        raise ConfigurationError(
            f"Expected the published weights with SHA-256 {GIANCARDO2020_SHA256} at {path}, received a file "
            f"with {sha256}. Delete it and run `corestream model fetch {GIANCARDO2020}`."
        )
    if sha256 == GIANCARDO2020_SHA256:
        return _giancardo2020(path)
    side_car = path.with_suffix(".json")
    return _described(path, sha256, side_car) if side_car.is_file() else _custom(path, sha256)


def _find(name_or_path: str, model_dir: Path) -> Path:
    if name_or_path == DEMO:
        path, advice = _DEMO_PATH, "The installation is incomplete: install corestream again."
    elif name_or_path == GIANCARDO2020:
        path = giancardo2020_path(model_dir)
        advice = f"Run `corestream model fetch {GIANCARDO2020}`, or set CORESTREAM_MODEL_DIR to its folder."
    else:
        path = Path(name_or_path)
        advice = f"Give one of {', '.join(MODEL_NAMES)}, or the path of a file of weights (CORESTREAM_MODEL)."
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise ConfigurationError(
            f"Expected the weights of the model {name_or_path!r} at {path}, received {found}. {advice}"
        )
    return path.resolve()


def _giancardo2020(path: Path) -> Model:
    return Model(
        path=path,
        sha256=GIANCARDO2020_SHA256,
        name=GIANCARDO2020,
        description=(
            "Published weights of the Giancardo Lab's CTA core detection "
            f"(github.com/Luyaochen1/glabapp_deploy, commit {_COMMIT[:7]}). They carry no licence."
        ),
        trained_on=(
            "CT angiograms, as a regression of the infarct core. "
            "Of which patients, the network's makers do not say."
        ),
        core_estimate=EstimateFacts(
            unit="ml (presumed)",
            rmse=10.5,
            note=(
                "The network's makers do not state the unit of this number; their paper speaks of the "
                "infarct core in millilitres. The error is that of their validation (mean squared error "
                "109.79); on other scans it may be larger."
            ),
        ),
        saliency_floor=GIANCARDO2020_FLOOR,
        fast=True,  # docs/decisions/0007-fast-precision.md
    )


def _described(path: Path, sha256: str, side_car: Path) -> Model:
    try:
        facts = _SideCar.model_validate_json(side_car.read_bytes())
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigurationError(
            f"Expected a description of {path.name} in {side_car}, received one with errors ({problems}). "
            "Mend it, or delete it to use the weights as a custom model."
        ) from error
    if facts.sha256 != sha256:
        raise ConfigurationError(
            f"Expected weights with SHA-256 {facts.sha256} at {path}, as {side_car.name} describes them, "
            f"received {sha256}. One of the two was changed: restore it, or delete {side_car.name} to use "
            "the weights as a custom model."
        )
    return Model(
        path=path,
        sha256=sha256,
        name=facts.name,
        description=facts.description,
        trained_on=facts.trained_on,
        core_estimate=facts.core_estimate,
        trained_range=facts.trained_range,
        saliency_floor=facts.saliency_floor,
    )


def _custom(path: Path, sha256: str) -> Model:
    return Model(
        path=path,
        sha256=sha256,
        name="custom",
        description="Custom weights of unknown origin.",
        trained_on="Unknown.",
        core_estimate=EstimateFacts(
            unit="unknown unit",
            rmse=None,
            note="Nothing is known about what this number measures, or how well.",
        ),
    )
