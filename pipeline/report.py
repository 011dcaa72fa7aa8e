"""`report.json`: everything that is known about one result, and how it came about."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.clock import Instant
from pipeline.ids import Id
from pipeline.ledger import Moment

RESEARCH_USE_ONLY = "Research use only. Not for diagnosis."
"""The sentence that every artefact carries."""

NO_REGION_STANDS_OUT = "No region stands out. This does not exclude a stroke."
"""What is said of a map that is not positive."""

Side = Literal["left", "right"]
"""A hemisphere of the patient, as the scan's header has it."""

Precision = Literal["float32", "fast"]
"""The network's arithmetic: 32-bit floats, or bfloat16 in two of its convolutions."""

Matrix = tuple[tuple[float, float, float, float], ...]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True, protected_namespaces=())


class InputFacts(_Part):
    """The volume as it came in."""

    sha256: str
    shape: tuple[int, int, int]
    voxel_size_mm: tuple[float, float, float]
    orientation: str
    """Axis codes as nibabel writes them: `LAS` is left, anterior, superior."""
    hu_range: tuple[float, float]


class Alignment(_Part):
    """How the volume came onto the network's grid."""

    method: str
    applied: bool
    """Whether the volume was resampled; False where it came on the grid."""
    quality: dict[str, float] | None = None
    transform: Matrix | None = None
    """(4, 4), world space of `aligned.nii.gz` to world space of the scan, RAS millimetres."""
    inverse: Matrix | None = None
    """(4, 4), the other way."""
    spaces: dict[str, str] = {}
    """In which space each position of the report is, in words, by the field's name."""


class ModelFacts(_Part):
    """The network that was asked."""

    name: str
    sha256: str
    description: str
    trained_on: str


class CoreEstimate(_Part):
    """The network's number."""

    value: float
    unit: str
    rmse: float | None
    """Root of the mean squared error on the data the model's makers held out, in `unit`."""
    note: str


class Saliency(_Part):
    """The map of the regions that moved the estimate."""

    raw_max: float
    """Largest value of the map before it was scaled, in units of the network's output per feature."""
    floor: float | None
    """`raw_max` below which the map says nothing; None where none has been established for the model."""
    positive: bool
    """Whether the map says something: `raw_max` is above the floor, or above 0 where there is no floor."""
    side: Side | None
    peak_voxel: tuple[int, int, int] | None
    """Voxel (i, j, k) of the saliency file where the map is largest."""
    peak_mm: tuple[float, float, float] | None
    """The same in the world space of that file, RAS millimetres."""
    peak_native_mm: tuple[float, float, float] | None = None
    """The same in the world space of the scan as it came in, RAS millimetres."""
    scale: str
    """What the values of `saliency.nii.gz` mean."""
    scale_fixed: str | None = None
    """What those of `saliency_fixed.nii.gz` mean; None in results from before there was one."""


class Report(_Part):
    """The contract of `report.json`."""

    schema_version: Literal["1"] = Field(default="1", alias="schema")
    job_id: Id | None
    """None where the detection ran without a queue."""
    scan_id: Id | None
    research_use_only: str = RESEARCH_USE_ONLY
    input: InputFacts
    orientation_note: str = ""
    """What the scan's header claims about left and right, and that nobody can check it."""
    alignment: Alignment
    model: ModelFacts
    precision: Precision = "float32"
    """The one that was used, whatever the settings ask for."""
    core_estimate: CoreEstimate
    saliency: Saliency
    timings_s: dict[str, float]
    """Seconds of each step of the detection."""
    times: dict[Moment, Instant] = {}
    """When the scan was what, up to its publication; nothing without a queue. A published report does not
    change: that its mail was accepted and its link opened stands in the ledger, and on the pages."""
    software: dict[str, str]
    warnings: tuple[str, ...] = ()
