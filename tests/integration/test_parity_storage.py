"""However a scan is stored, its map lies on the same points of world space, level for level."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.report import Report
from processor.detect import detect_scan, load_detector
from processor.detection.detector import Detection, Detector
from processor.detection.grid import GRID_AFFINE, GRID_SHAPE
from processor.models import Model, resolve_model
from processor.synthetic.lesion import random_lesion
from processor.synthetic.scan import synthesize

SEED = 20_001
SPARSE = 97
"""Of the voxels where the map is zero one in so many is looked at; no axis is a multiple of it."""
TILT = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.10, -0.06, 0.08), np.array([3.0, -20.0, 11.0]))
"""(4, 4): a head that lies in the scanner a little turned about every axis, and elsewhere."""
untyped: Any = nib
"""nibabel's functions carry no types; called by this name they need none."""


@dataclass(frozen=True)
class Storage:
    """How a scan is stored.

    Attributes:
        codes: Where its axes run to.
        dtype: Of its voxels.
        slope: Stored times this, plus `intercept_hu`, is the Hounsfield units.
        intercept_hu: The same.
        version: 1 or 2.
        form: The one that states the affine; the other's code is 0.
        world: (4, 4), MNI152 world space to the file's.
        compressed: By gzip.
    """

    codes: str = "LAS"
    dtype: str = "<i2"
    slope: float = 1
    intercept_hu: float = 0
    version: int = 1
    form: str = "sform"
    world: npt.NDArray[np.float64] | None = None
    compressed: bool = False

    def content(self, hu: npt.NDArray[np.int16]) -> bytes:
        """Return the file of a volume given on the grid, axes L, A, S."""
        turn = untyped.orientations.ornt_transform(
            untyped.orientations.axcodes2ornt("LAS"), untyped.orientations.axcodes2ornt(self.codes)
        )
        stored = (untyped.orientations.apply_orientation(hu, turn) - self.intercept_hu) / self.slope
        affine = self.placed @ untyped.orientations.inv_ornt_aff(turn, GRID_SHAPE)
        dtype = np.dtype(self.dtype)
        header = (untyped.Nifti1Header if self.version == 1 else untyped.Nifti2Header)(
            endianness=">" if self.dtype.startswith(">") else "<"
        )
        header.set_data_shape(stored.shape)
        header.set_data_dtype(dtype)
        header.set_sform(affine, code=4 if self.form == "sform" else 0)
        header.set_qform(affine, code=4 if self.form == "qform" else 0)
        header["magic"] = b"n+1" if self.version == 1 else b"n+2"
        header["vox_offset"] = header["sizeof_hdr"] + 4
        header["scl_slope"], header["scl_inter"] = self.slope, self.intercept_hu
        content: bytes = header.binaryblock + bytes(4) + stored.astype(dtype).tobytes(order="F")
        return gzip.compress(content, 1) if self.compressed else content

    @property
    def placed(self) -> npt.NDArray[np.float64]:
        """(4, 4), voxel on the grid to the file's world space."""
        return GRID_AFFINE if self.world is None else self.world @ GRID_AFFINE


@pytest.fixture(scope="module")
def model() -> Model:
    """The demonstration model."""
    return resolve_model("demo", Path("unused"))


@pytest.fixture(scope="module")
def detector(model: Model) -> Detector:
    """The same, traced once for all tests."""
    return load_detector(model)


@pytest.fixture(scope="module")
def hu() -> npt.NDArray[np.int16]:
    """A synthetic head with a lesion, axes L, A, S."""
    volume: npt.NDArray[np.int16] = synthesize(SEED, random_lesion(SEED)).volume_hu.astype(np.int16)
    return volume


@pytest.fixture(scope="module")
def wanted(hu: npt.NDArray[np.int16], detector: Detector) -> Detection:
    """The result for the very array; not a file is read for it."""
    detection = detector.detect(hu)
    assert detection.saliency.levels.max() > 50
    return detection


def levels_at(path: Path, world_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return a map's levels at points of its world space, (n, 3), each at the centre of a voxel."""
    image = untyped.Nifti1Image.from_filename(path)
    voxels = untyped.affines.apply_affine(np.linalg.inv(image.affine), world_mm)
    nearest = np.rint(voxels).astype(int)
    assert np.abs(voxels - nearest).max() < 0.01
    levels: npt.NDArray[np.float32] = np.asarray(image.dataobj)[tuple(nearest.T)]
    return levels


def run(
    storage: Storage, hu: npt.NDArray[np.int16], detector: Detector, model: Model, folder: Path
) -> Report:
    """Store a scan and detect it from its file."""
    (folder / "scan").write_bytes(storage.content(hu))
    return detect_scan(folder / "scan", folder, detector, model=model)


@pytest.mark.parametrize(
    "storage",
    [
        pytest.param(Storage("RAS"), id="RAS"),
        pytest.param(Storage("LAS"), id="LAS"),
        pytest.param(Storage("LPS"), id="LPS"),
        pytest.param(Storage("RPI"), id="every axis the other way"),
        pytest.param(Storage("SAL"), id="axes permuted"),
        pytest.param(Storage("PIR"), id="axes permuted and flipped"),
        pytest.param(Storage(dtype="<u2", intercept_hu=-1024), id="uint16 from -1024"),
        pytest.param(Storage(dtype="<i4"), id="int32"),
        pytest.param(Storage(dtype="<f4"), id="float32"),
        pytest.param(Storage(dtype="<f8"), id="float64"),
        pytest.param(Storage(slope=0.5, intercept_hu=-1000), id="slope and intercept"),
        pytest.param(Storage(dtype="<f4", slope=-2, intercept_hu=24), id="negative slope"),
        pytest.param(Storage(dtype=">i2"), id="big-endian"),
        pytest.param(Storage(version=2), id="NIfTI-2"),
        pytest.param(Storage(form="qform"), id="qform alone"),
        pytest.param(Storage("RAS", world=TILT), id="a tilted head"),
        pytest.param(
            Storage("ILA", ">f8", 0.25, -8, version=2, form="qform", world=TILT, compressed=True),
            id="all of it",
        ),
    ],
)
def test_the_storage_of_a_scan_does_not_move_its_map(
    storage: Storage,
    hu: npt.NDArray[np.int16],
    wanted: Detection,
    detector: Detector,
    model: Model,
    tmp_path: Path,
) -> None:
    """The levels are equal wherever there are any, in the file's world space; the number is too."""
    report = run(storage, hu, detector, model, tmp_path)
    assert report.input.orientation == storage.codes
    assert report.warnings == ()
    levels = wanted.saliency.levels
    looked_at = levels > 0
    looked_at.reshape(-1)[::SPARSE] = True
    world_mm = untyped.affines.apply_affine(storage.placed, np.argwhere(looked_at))
    np.testing.assert_array_equal(levels_at(tmp_path / "saliency.nii.gz", world_mm), levels[looked_at])
    assert report.saliency.peak_mm is not None
    assert levels_at(tmp_path / "saliency.nii.gz", np.array([report.saliency.peak_mm])) == levels.max()
    assert report.core_estimate.value == wanted.core_estimate


def test_a_slope_that_binary_fractions_cannot_hold_changes_next_to_nothing(
    hu: npt.NDArray[np.int16],
    wanted: Detection,
    detector: Detector,
    model: Model,
    tmp_path: Path,
) -> None:
    """Tenths of a Hounsfield unit: what is left stays within the limits of the published map."""
    report = run(Storage(slope=0.1, intercept_hu=-1024), hu.clip(-1024, 2000), detector, model, tmp_path)
    found = np.asarray(untyped.Nifti1Image.from_filename(tmp_path / "saliency.nii.gz").dataobj)
    assert np.abs(found - wanted.saliency.levels).max() <= 3
    assert report.core_estimate.value == pytest.approx(wanted.core_estimate, rel=1e-4)


def test_the_same_array_declared_mirrored_has_its_map_on_the_other_side(
    hu: npt.NDArray[np.int16], wanted: Detection, detector: Detector, model: Model, tmp_path: Path
) -> None:
    """Left and right are what the header's world space says, not what the array's index says."""
    mirrored = run(Storage("RAS"), np.ascontiguousarray(hu[::-1]), detector, model, tmp_path).saliency.side
    assert {wanted.saliency.side, mirrored} == {"left", "right"}
