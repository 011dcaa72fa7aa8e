"""Volumes: the same scan in any storage is the same array; everything else is refused in words."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.errors import ScanRefusedError
from processor.detection.grid import GRID_AFFINE, GRID_SHAPE
from processor.placement import PlacedScan, place_on_grid
from processor.volumes import read_volume

Voxels = npt.NDArray[Any]
Header = nib.Nifti1Header
untyped: Any = nib
"""nibabel's functions carry no types; called by this name they need none."""


@pytest.fixture(scope="module")
def hu() -> npt.NDArray[np.int16]:
    """A scan in which no voxel is like its neighbours, all of them tissue; axes L, A, S."""
    return np.random.default_rng(21).integers(1, 100, GRID_SHAPE).astype(np.int16)


def image_of(
    voxels: Voxels, codes: str = "LAS", kind: type[nib.Nifti1Image] = nib.Nifti1Image
) -> nib.Nifti1Image:
    """Return an image of voxels given as L, A, S, stored with other axes."""
    stored = untyped.orientations.axcodes2ornt(codes)
    turn = untyped.orientations.ornt_transform(untyped.orientations.axcodes2ornt("LAS"), stored)
    turned = untyped.orientations.apply_orientation(voxels, turn)
    affine = GRID_AFFINE @ untyped.orientations.inv_ornt_aff(turn, GRID_SHAPE)
    image = kind(turned, affine)
    forms: Any = image
    forms.set_sform(affine, 4)
    forms.set_qform(affine, 4)
    return image


def saved(path: Path, image: nib.Nifti1Image) -> Path:
    """Save an image under a name that says nothing."""
    path.write_bytes(image.to_bytes())
    return path


def placed(path: Path) -> PlacedScan:
    """Return a file on the grid."""
    return place_on_grid(read_volume(path))


def refused(path: Path) -> ScanRefusedError:
    """Return why a file is refused."""
    with pytest.raises(ScanRefusedError) as caught:
        read_volume(path)
    assert "received" in caught.value.failure.detail
    return caught.value


@pytest.mark.parametrize("codes", ["LAS", "RAS", "LPS", "RPI", "PSR", "SAL", "ILA"])
def test_the_axes_order_in_the_file_does_not_matter(tmp_path: Path, hu: Voxels, codes: str) -> None:
    """Voxels and world positions come out the same; the report says how they were stored."""
    volume = read_volume(saved(tmp_path / "scan", image_of(hu, codes)))
    scan = place_on_grid(volume)
    np.testing.assert_array_equal(scan.hu, hu)
    np.testing.assert_allclose(scan.affine, GRID_AFFINE, atol=1e-4)
    assert volume.orientation == codes
    assert sorted(volume.shape) == sorted(GRID_SHAPE)
    assert volume.voxel_size_mm == pytest.approx((1, 1, 1))
    assert volume.warnings == ()


@pytest.mark.parametrize("dtype", ["i2", "u2", "i4", "f4", "f8", ">i2", ">f4"])
def test_the_type_and_byte_order_of_the_voxels_do_not_matter(tmp_path: Path, hu: Voxels, dtype: str) -> None:
    """Whole Hounsfield units are exact in all of them."""
    image: Any = image_of(hu.astype(dtype))
    if dtype.startswith(">"):
        image = untyped.Nifti1Image(hu.astype(dtype), GRID_AFFINE, image.header.as_byteswapped(">"))
    np.testing.assert_array_equal(placed(saved(tmp_path / "scan", image)).hu, hu)


def test_nifti_2_is_read_too(tmp_path: Path, hu: Voxels) -> None:
    """Its header is longer."""
    np.testing.assert_array_equal(placed(saved(tmp_path / "scan", image_of(hu, kind=nib.Nifti2Image))).hu, hu)


def test_slope_and_intercept_are_applied(tmp_path: Path, hu: Voxels) -> None:
    """Stored 1 ... 99 mean 20.5 ... 69.5 here."""
    image = image_of(hu)
    content = bytearray(image.to_bytes())
    content[112:120] = np.array([0.5, 20], "<f4").tobytes()
    (tmp_path / "scan").write_bytes(content)
    np.testing.assert_allclose(placed(tmp_path / "scan").hu, hu * 0.5 + 20)
    assert read_volume(tmp_path / "scan").hu_range == (20.5, 69.5)


@pytest.mark.parametrize(("dtype", "offset"), [("u4", 2**31), ("i4", -(2**30)), ("f8", 2**40)])
def test_an_offset_beyond_what_float32_counts_to_costs_no_hounsfield_unit(
    tmp_path: Path, hu: Voxels, dtype: str, offset: int
) -> None:
    """Taken back before anything is summed or interpolated: 2^31 + 40 is 2^31 in float32."""
    content = bytearray(image_of((hu.astype(np.int64) + offset).astype(dtype)).to_bytes())
    content[112:120] = np.array([1, -offset], "<f4").tobytes()
    (tmp_path / "scan").write_bytes(content)
    volume = read_volume(tmp_path / "scan").volume
    np.testing.assert_array_equal(volume.stored, hu)
    assert (volume.slope, volume.intercept) == (1, 0)


def test_what_a_slope_takes_beyond_all_numbers_is_said_and_read_as_the_highest(
    tmp_path: Path, hu: Voxels
) -> None:
    """A report holds finite numbers only: JSON has no others."""
    real = hu.astype(np.float32)
    real[0, 0, 0] = 3e38
    content = bytearray(image_of(real).to_bytes())
    content[112:120] = np.array([2, 0], "<f4").tobytes()
    (tmp_path / "scan").write_bytes(content)
    volume = read_volume(tmp_path / "scan")
    assert volume.hu_range[1] == 3071
    assert volume.warnings == ("Not finite numbers: 1 of the voxels. NaN was read as air (-1024 HU).",)


def test_compression_is_told_by_content_not_name(tmp_path: Path, hu: Voxels) -> None:
    """The hash is that of the file as it lies there."""
    content = gzip.compress(image_of(hu).to_bytes(), 1)
    (tmp_path / "scan.nii").write_bytes(content)
    volume = read_volume(tmp_path / "scan.nii")
    np.testing.assert_array_equal(volume.volume.stored, hu)
    assert volume.sha256 == hashlib.sha256(content).hexdigest()


def test_a_trailing_axis_of_one_entry_is_dropped(tmp_path: Path, hu: Voxels) -> None:
    """Many tools write one."""
    image = untyped.Nifti1Image(hu[..., None], GRID_AFFINE)
    np.testing.assert_array_equal(placed(saved(tmp_path / "scan", image)).hu, hu)


def test_voxels_that_are_no_numbers_become_air_with_a_warning(tmp_path: Path, hu: Voxels) -> None:
    """They would make the estimate NaN."""
    real = hu.astype(np.float32)
    real[0, 0, 0], real[1, 0, 0], real[2, 0, 0] = np.nan, np.inf, -np.inf
    volume = read_volume(saved(tmp_path / "scan", image_of(real)))
    stored = volume.volume.stored
    assert stored[:3, 0, 0].tolist() == [-1024, 3071, -1024]
    np.testing.assert_array_equal(stored[3:], hu[3:])
    assert volume.warnings == ("Not finite numbers: 3 of the voxels. NaN was read as air (-1024 HU).",)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x89PNG\r\n", bytes(1000)])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    """Nothing is guessed from its name."""
    (tmp_path / "scan.nii").write_bytes(content)
    assert refused(tmp_path / "scan.nii").failure.code == "not-nifti"


def test_a_file_cut_off_is_refused(tmp_path: Path, hu: Voxels) -> None:
    """Compressed or not."""
    plain = image_of(hu).to_bytes()
    for content in (plain[:-1000], gzip.compress(plain, 1)[:-1000], gzip.compress(plain[:-1000], 1)):
        (tmp_path / "scan").write_bytes(content)
        assert refused(tmp_path / "scan").failure.code == "scan-incomplete"


def test_a_wrong_checksum_is_refused(tmp_path: Path, hu: Voxels) -> None:
    """The CRC is at its end; nibabel alone would not look at it."""
    content = bytearray(gzip.compress(image_of(hu).to_bytes(), 1))
    content[-8] ^= 1
    (tmp_path / "scan").write_bytes(content)
    assert refused(tmp_path / "scan").failure.code == "gzip-damaged"


def test_a_volume_too_large_for_the_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """Its header alone tells."""
    content = bytearray(untyped.Nifti1Image(np.zeros((2, 2, 2), np.int16), GRID_AFFINE).to_bytes())
    content[42:48] = np.array([3000, 3000, 700], "<i2").tobytes()
    (tmp_path / "scan").write_bytes(content)
    failure = refused(tmp_path / "scan").failure
    assert failure.code == "inflated-too-large"
    assert "3000 × 3000 × 700" in failure.detail  # noqa: RUF001 - as the message has it


def test_more_than_one_volume_is_refused(tmp_path: Path, hu: Voxels) -> None:
    """A time series is no angiogram."""
    image = untyped.Nifti1Image(np.stack([hu, hu], axis=-1), GRID_AFFINE)
    failure = refused(saved(tmp_path / "scan", image)).failure
    assert failure.code == "not-a-volume"
    assert "133 × 2" in failure.detail  # noqa: RUF001 - as the message has it


def test_voxels_that_are_not_real_are_refused(tmp_path: Path, hu: Voxels) -> None:
    """Complex numbers have no Hounsfield units."""
    image = untyped.Nifti1Image(hu.astype(np.complex64), GRID_AFFINE)
    assert refused(saved(tmp_path / "scan", image)).failure.code == "datatype-unsupported"


def _codes(header: Header) -> None:
    header["sform_code"] = header["qform_code"] = 0


def _singular(header: Header) -> None:
    header["srow_x"] = 0


def _nan(header: Header) -> None:
    header["srow_y"] = np.nan


def _mirrored(header: Header) -> None:
    header["srow_x"] = -header["srow_x"]


def _datatype(header: Header) -> None:
    header["datatype"] = 9999


def _offset(header: Header) -> None:
    header["vox_offset"] = 0


def _dimensions(header: Header) -> None:
    header["dim"][0] = 200


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (_codes, "orientation-unknown"),
        (_singular, "orientation-invalid"),
        (_nan, "orientation-invalid"),
        (_mirrored, "orientation-contradictory"),
        (_datatype, "datatype-unsupported"),
        (_offset, "voxel-offset-invalid"),
        (_dimensions, "dimensions-invalid"),
    ],
)
def test_a_header_that_cannot_be_believed_is_refused(
    tmp_path: Path, hu: Voxels, damage: Callable[[Header], None], code: str
) -> None:
    """Left and right above all are never guessed."""
    content = image_of(hu).to_bytes()
    header = untyped.Nifti1Header(content[:348], check=False)
    damage(header)
    (tmp_path / "scan").write_bytes(header.binaryblock + content[348:])
    assert refused(tmp_path / "scan").failure.code == code
