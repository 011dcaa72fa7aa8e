"""Small DICOM series, good ones and ones that are spoilt in one way each."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

ROWS, COLUMNS = 24, 32
SPACING_MM = (0.9, 0.7)
"""Between rows and between columns."""
CORNER_MM = (-11.5, 7.25, -31.0)
"""Centre of the first pixel of the first slice, LPS."""


def pixels(slices: int, seed: int = 0) -> NDArray[np.uint16]:
    """Return (slices, rows, columns) stored values, no two slices alike."""
    return np.random.default_rng(seed).integers(0, 4000, (slices, ROWS, COLUMNS), dtype=np.uint16)


def ct_slice(stored: NDArray[np.uint16], number: int, series_uid: str) -> FileDataset:
    """Return one axial CT image with a patient's name in it, uncompressed; to be changed at will."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    image.Modality, image.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.PatientName, image.PatientID = "Doe^Jane", "PID-4711"
    image.SeriesDescription = "Doe^Jane head"
    image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3", series_uid
    image.SeriesNumber, image.InstanceNumber = 3, number + 1
    image.ImagePositionPatient = [CORNER_MM[0], CORNER_MM[1], CORNER_MM[2] + 1.25 * number]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.PixelSpacing = list(SPACING_MM)
    image.SliceThickness = 1.25
    image.Rows, image.Columns = stored.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.RescaleSlope, image.RescaleIntercept = 1, -1024
    image.PixelData = stored.tobytes()
    return image


def series(slices: int = 8, seed: int = 0) -> list[FileDataset]:
    """Return the images of one good series, in order."""
    uid = generate_uid(entropy_srcs=[str(seed)])
    return [ct_slice(stored, number, uid) for number, stored in enumerate(pixels(slices, seed))]


def on_grid() -> list[FileDataset]:
    """Return a series of the network's grid, 146 by 182 by 133 voxels of 1 mm."""
    uid = generate_uid()
    images = []
    for number in range(133):
        stored = np.arange(182 * 146, dtype=np.uint16).reshape(182, 146) % 97 + number
        image = ct_slice(stored, number, uid)
        image.PixelSpacing, image.ImagePositionPatient = [1, 1], [-72, -74.5, number - 51.5]
        images.append(image)
    return images


def tilted(images: list[FileDataset], degrees: float) -> list[FileDataset]:
    """Turn a series' images about the left-right axis, as a gantry does; the table goes on straight."""
    angle = np.deg2rad(degrees)
    for image in images:
        image.ImageOrientationPatient = [1, 0, 0, 0, round(np.cos(angle), 6), round(-np.sin(angle), 6)]
    return images


def recoded(images: list[FileDataset], syntax: UID, frames: Iterable[bytes]) -> list[FileDataset]:
    """Give a series compressed pixels, one frame an image."""
    for image, frame in zip(images, frames, strict=True):
        image.file_meta.TransferSyntaxUID = syntax
        image.PixelData = encapsulate([frame])
        image["PixelData"].is_undefined_length = True
    return images


def as_bytes(image: FileDataset) -> bytes:
    """Return an image's file."""
    file = io.BytesIO()
    image.save_as(file, enforce_file_format=True)
    return file.getvalue()


def written(images: Iterable[FileDataset], folder: Path) -> list[Path]:
    """Write images under names that tell nothing of their order."""
    folder.mkdir(exist_ok=True)
    paths = []
    for image in images:
        paths.append(folder / f"{image.SOPInstanceUID}")
        paths[-1].write_bytes(as_bytes(image))
    return sorted(paths)


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return an archive."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", compression) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return archive.getvalue()


def archive_of(images: Iterable[FileDataset]) -> bytes:
    """Return an archive of images, in a folder as exports have it."""
    return zipped({f"CT/{number}": as_bytes(image) for number, image in enumerate(images)})
