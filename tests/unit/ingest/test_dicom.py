"""One CT series becomes one volume that lies where its headers say; anything else is refused in words."""

from __future__ import annotations

import base64
import io
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 - its users' name for it
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from ingest.dicom.archive import MAX_ENTRIES, unpack
from ingest.dicom.child import converted
from ingest.dicom.conversion import convert
from ingest.dicom.images import read_slices
from ingest.dicom.series import choose
from pipeline.web.problems import ProblemError
from tests.support.dicom_files import archive_of, as_bytes, pixels, recoded, series, tilted, written, zipped
from tests.support.reference import reference

LIMIT_BYTES = 64 * 1024**2
EnhancedCT = "1.2.840.10008.5.1.4.1.1.2.1"


def volume_of(files: list[Path], folder: Path) -> nib.Nifti1Image:
    """Convert some files in this process."""
    folder.mkdir()
    return nib.Nifti1Image.from_filename(convert(choose(read_slices(files)), folder))


def assert_lies_where_the_headers_say(image: nib.Nifti1Image, slices: list[FileDataset]) -> None:
    """Look every pixel's HU up at the place that its own header gives it (PS3.3 C.7.6.2.1.1)."""
    data = np.asarray(image.dataobj)
    to_voxel = np.linalg.inv(image.affine)
    assert data.shape[2] == len(slices)
    for one in slices:
        corner = np.array(one.ImagePositionPatient, dtype=float)
        along_row, along_column = np.array(one.ImageOrientationPatient, dtype=float).reshape(2, 3)
        rows, columns = np.mgrid[: one.Rows, : one.Columns]
        lps = (
            corner
            + columns[..., np.newaxis] * along_row * float(one.PixelSpacing[1])
            + rows[..., np.newaxis] * along_column * float(one.PixelSpacing[0])
        )
        voxel = (lps * (-1, -1, 1)) @ to_voxel[:3, :3].T + to_voxel[:3, 3]
        index = voxel.round().astype(int)
        off_mm = np.abs((voxel - index) @ image.affine[:3, :3].T).max()
        assert off_mm < 0.01
        hu = one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept)
        assert np.array_equal(data[tuple(np.moveaxis(index, -1, 0))], hu)


def reversed_order(images: list[FileDataset]) -> list[FileDataset]:
    """Number the slices from the top."""
    for number, image in enumerate(reversed(images), start=1):
        image.InstanceNumber = number
    return images


def downwards(images: list[FileDataset]) -> list[FileDataset]:
    """Count the columns from right to left, so that the images' normal points down."""
    for image in images:
        image.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]
    return images


def coronal(images: list[FileDataset]) -> list[FileDataset]:
    """Turn the images upright."""
    for number, image in enumerate(images):
        image.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        image.ImagePositionPatient = [-10, 2.0 * number, 30]
    return images


GOOD: dict[str, Callable[[], list[FileDataset]]] = {
    "axial": series,
    "numbered from the top": lambda: reversed_order(series()),
    "with its normal downwards": lambda: downwards(series()),
    "coronal": lambda: coronal(series()),
    "tilted by 18 degrees": lambda: tilted(series(), 18),
    "tilted by -27.5 degrees": lambda: tilted(series(), -27.5),
    "of two slices": lambda: series(2),
}


@pytest.mark.parametrize("build", GOOD.values(), ids=GOOD.keys())
def test_every_pixel_lies_where_its_header_puts_it(
    tmp_path: Path, build: Callable[[], list[FileDataset]]
) -> None:
    """Geometry is right to 0.01 mm; a tilted gantry's shear is kept and nothing is resampled."""
    images = build()
    assert_lies_where_the_headers_say(volume_of(written(images, tmp_path / "in"), tmp_path / "out"), images)


def jpeg_2000(stored: NDArray[np.uint16]) -> bytes:
    """Encode without loss."""
    file = io.BytesIO()
    Image.fromarray(stored).save(file, "JPEG2000", irreversible=False, no_jp2=True)
    return file.getvalue()


def jpeg_lossless(images: list[FileDataset], folder: Path) -> list[Path]:
    """Have GDCM, which is not what decodes them, compress a series (process 14, selection value 1)."""
    paths = []
    for path in written(images, folder):
        image = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.KeepOriginalImageUIDOn()
        writer.SetUseCompression(True)
        writer.SetCompressor("JPEG")
        writer.SetFileName(str(path) + ".dcm")
        writer.Execute(image)
        coded = pydicom.dcmread(str(path) + ".dcm")
        plain = pydicom.dcmread(path)
        plain.file_meta.TransferSyntaxUID = coded.file_meta.TransferSyntaxUID
        plain.PixelData = coded.PixelData
        plain["PixelData"].is_undefined_length = True
        path.write_bytes(as_bytes(plain))
        paths.append(path)
    return paths


def test_compressed_series_are_decoded(tmp_path: Path) -> None:
    """RLE, JPEG lossless and JPEG 2000 are the same volume as without compression."""
    plain = series()
    rle = series()
    for image in rle:
        image.compress(RLELossless, generate_instance_uid=False)
    j2k = recoded(series(), JPEG2000Lossless, map(jpeg_2000, pixels(8)))
    coded = {
        "rle": written(rle, tmp_path / "rle-in"),
        "j2k": written(j2k, tmp_path / "j2k-in"),
        "jpeg": jpeg_lossless(series(), tmp_path / "jpeg-in"),
    }
    for name, files in coded.items():
        assert_lies_where_the_headers_say(volume_of(files, tmp_path / name), plain)


_JPEG_LS = (
    "|JeWc01FEM7yuvv0TBTI+5iXv0RR91000000Q~NE*EE0K=Qq9YTGw}W?(XjH?(3}9ElOooRaI0;B$7!ay6Gg9RaI40RaKT%SO0(iEr0)i|6?E"
    "jfB$y3|9}5|DgS@}e@cJ<fB$BG|9}5gfB%2~Re%3~|5bngfB#i~|9}5gfB%2~Re%3~|5bngfB#i~|9}5PfB%2~N&kQUe<%Nc|9qeSfB$lS|9}5"
    "U|9}5~0RPz"
)
"""1000 + 7 row + 13 column, 24 rows of 32 columns of 16 bits, coded by CharLS 2.4: nothing that the tests
stand on writes JPEG-LS."""


def test_a_jpeg_ls_series_is_decoded(tmp_path: Path) -> None:
    """The values of a known picture come back."""
    images = recoded(series(4), JPEGLSLossless, [base64.b85decode(_JPEG_LS)] * 4)
    data = np.asarray(volume_of(written(images, tmp_path / "in"), tmp_path / "out").dataobj)
    rows, columns = np.mgrid[:24, :32]
    expected = (1000 + 7 * rows + 13 * columns - 1024).T[:, ::-1, np.newaxis]
    assert np.array_equal(data, np.repeat(expected, 4, axis=2))


@pytest.mark.parametrize("name", ["cranium_explicit_le", "cranium_rle"])
def test_a_real_heads_archive_is_converted(tmp_path: Path, name: str) -> None:
    """Real voxels, uncompressed and as RLE, from the archive to the volume."""
    files = unpack(reference(f"dicom/{name}.zip"), tmp_path, max_bytes=LIMIT_BYTES)
    image = volume_of(files, tmp_path / "out")
    assert_lies_where_the_headers_say(image, [pydicom.dcmread(file) for file in files])


def test_the_largest_ct_series_is_taken(tmp_path: Path) -> None:
    """What an examination holds beside it, a shorter series, its scout, a report, is left."""
    large, small, scout, report = series(9), series(5, seed=1), series(1, seed=2), series(1, seed=3)
    scout[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    report[0].Modality = "SR"
    upload = tmp_path / "upload"
    upload.write_bytes(archive_of([*small, *scout, *large, *report]))
    with converted([upload], tmp_path / "work", max_bytes=LIMIT_BYTES) as (volume, removed):
        assert_lies_where_the_headers_say(nib.Nifti1Image.from_filename(volume), large)
    assert removed == ("DICOM tags", "images of other series")
    assert [path.name for path in tmp_path.iterdir()] == ["upload"]


def test_no_tag_leaves_the_working_folder(tmp_path: Path) -> None:
    """A patient's name is in every image and in none of what is kept."""
    upload, target = tmp_path / "upload", tmp_path / "kept.part"
    upload.write_bytes(archive_of(series()))
    with converted([upload], tmp_path / "work", max_bytes=LIMIT_BYTES) as (volume, _):
        content = volume.read_bytes()
    assert b"Doe" not in content
    assert b"4711" not in content
    assert not target.exists()


def without(number: int, slices: int = 8) -> list[FileDataset]:
    """Return a series that lacks one slice."""
    images = series(slices)
    del images[number]
    return images


def twice(number: int) -> list[FileDataset]:
    """Return a series with two images at one position."""
    images = series()
    images[number].ImagePositionPatient = images[number - 1].ImagePositionPatient
    return images


def changed(number: int | None = None, **values: object) -> list[FileDataset]:
    """Return a series with other values in all images, or in one."""
    images = series()
    for image in images if number is None else [images[number]]:
        for name, value in values.items():
            setattr(image, name, value)
    return images


def lacking(name: str) -> list[FileDataset]:
    """Return a series without one element."""
    images = series()
    for image in images:
        del image[name]
    return images


def side_by_side(images: list[FileDataset]) -> list[FileDataset]:
    """Lay the slices out in their own plane."""
    for number, image in enumerate(images):
        image.ImagePositionPatient = [5.0 * number, 0, 0]
    return images


REFUSED: dict[str, tuple[Callable[[], list[FileDataset]], str, str]] = {
    "a slice is missing": (lambda: without(3), "dicom-steps-uneven", "2.50 mm between slices 3 and 4"),
    "four are missing of forty": (
        lambda: [image for n, image in enumerate(series(40)) if n not in {20, 21, 22, 23}],
        "dicom-steps-uneven",
        "6.25 mm",
    ),
    "a position comes twice": (lambda: twice(4), "dicom-slice-duplicate", "same position"),
    "an image comes twice": (lambda: [*series(), series()[2]], "dicom-slice-duplicate", "slices 3 and 4"),
    "a slice is shifted sideways": (
        lambda: changed(4, ImagePositionPatient=[-10.5, 7.25, -26.0]),
        "dicom-steps-uneven",
        "between slices",
    ),
    "one slice": (lambda: series(1), "dicom-single-slice", "one slice"),
    "a scout": (lambda: changed(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "dicom-scout", "scout"),
    "a perfusion map": (lambda: changed(ImageType=["DERIVED", "SECONDARY", "CBF"]), "dicom-map", "maps"),
    "colours": (lambda: changed(SamplesPerPixel=3), "dicom-map", "colour"),
    "an enhanced image": (lambda: changed(SOPClassUID=EnhancedCT), "dicom-multi-frame", "multi-frame"),
    "several frames": (lambda: changed(NumberOfFrames=20), "dicom-multi-frame", "multi-frame"),
    "MR": (lambda: changed(Modality="MR"), "dicom-not-ct", "modality MR"),
    "no position": (lambda: lacking("ImagePositionPatient"), "dicom-unreadable", "incomplete"),
    "a position that is none": (
        lambda: changed(ImagePositionPatient=[0, float("nan"), 0]),
        "dicom-unreadable",
        "damaged",
    ),
    "cosines of another length": (
        lambda: changed(ImageOrientationPatient=[2, 0, 0, 0, 1, 0]),
        "dicom-unreadable",
        "damaged",
    ),
    "no pixel spacing": (lambda: changed(PixelSpacing=[0, 1]), "dicom-unreadable", "damaged"),
    "another size in between": (lambda: changed(2, Rows=12), "dicom-mixed", "32 × 12 pixels"),  # noqa: RUF001
    "another intercept in between": (lambda: changed(2, RescaleIntercept=0), "dicom-mixed", "scaled"),
    "another orientation in between": (
        lambda: changed(2, ImageOrientationPatient=[1, 0, 0, 0, 0.6, 0.8]),
        "dicom-mixed",
        "orientation",
    ),
    "slices side by side": (lambda: side_by_side(series()), "dicom-steps-uneven", "side by side"),
    "pixels that are cut off": (
        lambda: recoded(series(), JPEG2000Lossless, [b"\xff\x4f"] * 8),
        "dicom-not-converted",
        "JPEG 2000",
    ),
}


@pytest.mark.parametrize(("build", "code", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_one_whole_ct_volume_is_refused(
    tmp_path: Path, build: Callable[[], list[FileDataset]], code: str, words: str
) -> None:
    """The refusal says what is wrong with the series, and what was expected."""
    files = []
    for number, image in enumerate(build()):
        files.append(tmp_path / f"{number}.dcm")
        files[-1].write_bytes(as_bytes(image))
    with pytest.raises(ProblemError) as caught:
        volume_of(files, tmp_path / "out")
    assert (caught.value.status, caught.value.code) == (422, code)
    assert "Expected " in caught.value.detail
    assert words in caught.value.detail


def linked() -> bytes:
    """Return an archive with a symbolic link in it."""
    entry = zipfile.ZipInfo("CT/1")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    return file.getvalue()


def encrypted() -> bytes:
    """Return an archive whose entry says that it is encrypted, in both of its headers."""
    content = bytearray(zipped({"CT/1": b"x" * 400}, zipfile.ZIP_STORED))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def bad_crc() -> bytes:
    """Return an archive with a byte of its entry changed."""
    content = bytearray(zipped({"CT/1": bytes(128) + b"DICM" + b"x" * 400}, zipfile.ZIP_STORED))
    content[300] ^= 1
    return bytes(content)


ARCHIVES: dict[str, tuple[Callable[[], bytes], int, str, str]] = {
    "a path out of it": (lambda: zipped({"../1.dcm": b"x"}), 422, "archive-unsafe", "`..`"),
    "a path out of it, Windows' way": (lambda: zipped({"a\\..\\1": b"x"}), 422, "archive-unsafe", "`..`"),
    "an absolute path": (lambda: zipped({"/etc/1.dcm": b"x"}), 422, "archive-unsafe", "absolute"),
    "a drive": (lambda: zipped({"C:\\1.dcm": b"x"}), 422, "archive-unsafe", "absolute"),
    "a link": (linked, 422, "archive-unsafe", "link"),
    "encryption": (encrypted, 422, "archive-unsafe", "encrypted"),
    "an archive inside": (
        lambda: zipped({"1": zipped({"a": b"x"})}),
        422,
        "archive-unsafe",
        "another archive",
    ),
    "a gzip inside": (lambda: zipped({"a.nii.gz": b"\x1f\x8b" + bytes(9)}), 422, "archive-unsafe", "another"),
    "a bomb": (lambda: zipped({"1": bytes(30 * 1024**2)}), 413, "archive-too-large", "100 times"),
    "too many bytes": (
        lambda: zipped({"1": bytes(LIMIT_BYTES + 1)}, zipfile.ZIP_STORED),
        413,
        "archive-too-large",
        "67,108,865",
    ),
    "too many files": (
        lambda: zipped(dict.fromkeys(map(str, range(MAX_ENTRIES + 1)), b""), zipfile.ZIP_STORED),
        413,
        "archive-too-large",
        "10,001",
    ),
    "a wrong checksum": (bad_crc, 422, "archive-damaged", "unzip -t"),
    "its end missing": (lambda: archive_of(series(2))[:-30], 422, "archive-damaged", "unzip -t"),
    "no files": (lambda: zipped({}), 422, "dicom-none", "without a single DICOM file"),
    "text": (lambda: zipped({"read me": b"words" * 100}), 422, "dicom-none", "without a single DICOM file"),
}


@pytest.mark.parametrize(("build", "status", "code", "words"), ARCHIVES.values(), ids=ARCHIVES.keys())
def test_an_archive_is_not_trusted(
    tmp_path: Path, build: Callable[[], bytes], status: int, code: str, words: str
) -> None:
    """Nothing is written outside of the folder, nothing is inflated beyond the limits, nothing is guessed."""
    upload, folder = tmp_path / "upload", tmp_path / "folder"
    upload.write_bytes(build())
    folder.mkdir()
    with pytest.raises(ProblemError) as caught:
        read_slices(unpack(upload, folder, max_bytes=LIMIT_BYTES))
    assert (caught.value.status, caught.value.code) == (status, code)
    assert "Expected " in caught.value.detail
    assert words in caught.value.detail
    assert {path.name for path in tmp_path.iterdir()} == {"upload", "folder"}


def test_a_series_larger_than_the_limit_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """A kilobyte of JPEG 2000 may claim any size."""
    images = recoded(changed(Rows=20_000, Columns=20_000), JPEG2000Lossless, [b"\xff\x4f"] * 8)
    upload = tmp_path / "upload"
    upload.write_bytes(archive_of(images))
    with (
        pytest.raises(ProblemError) as caught,
        converted([upload], tmp_path / "work", max_bytes=LIMIT_BYTES),
    ):
        pass
    assert (caught.value.status, caught.value.code) == (413, "inflated-too-large")
    assert [path.name for path in tmp_path.iterdir()] == ["upload"]


def test_a_reader_that_dies_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that take more than the limits of time and memory are refused, and leave nothing."""
    monkeypatch.setattr("ingest.dicom.child.TIMEOUT_S", 0.01)
    upload = tmp_path / "upload"
    upload.write_bytes(archive_of(series()))
    with (
        pytest.raises(ProblemError) as caught,
        converted([upload], tmp_path / "work", max_bytes=LIMIT_BYTES),
    ):
        pass
    assert (caught.value.status, caught.value.code) == (422, "dicom-unreadable")
    assert [path.name for path in tmp_path.iterdir()] == ["upload"]
