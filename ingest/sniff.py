"""What a file that is not a NIfTI looks like, by its first bytes: names lie."""

from __future__ import annotations

_MAGICS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"PK\x05\x06", "an empty ZIP archive"),
    (128, b"DICM", "a DICOM file"),
    (0, b"\x89PNG\r\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"BM", "a BMP picture"),
    (0, b"II*\0", "a TIFF picture"),
    (0, b"MM\0*", "a TIFF picture"),
    (0, b"%PDF", "a PDF document"),
    (0, b"NRRD", "an NRRD volume"),
    (0, b"ObjectType", "a MetaImage header"),
    (0, b"\0\0\0\x01\0\0", "a FreeSurfer MGH volume"),
    (0, b"\x89HDF\r\n", "an HDF5 file"),
    (0, b"\xfd7zXZ", "an xz archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"7z\xbc\xaf", "a 7-Zip archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (257, b"ustar", "a tar archive"),
    (344, b"ni1\0", "the header half of a NIfTI .hdr/.img pair"),
    (0, b"\x5c\x01\0\0", "an Analyze 7.5 header"),
    (0, b"\0\0\x01\x5c", "an Analyze 7.5 header"),
)

SNIFF_BYTES = 348
"""As much of a file's beginning as tells what it is."""
_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"\xfd7zXZ", b"BZh", b"\x28\xb5\x2f\xfd")
_ZIPS = (b"PK\x03\x04", b"PK\x05\x06")
_ASCII = frozenset(range(32, 127)) | {9, 10, 13}


def is_dicom(head: bytes) -> bool:
    """Tell a DICOM file (PS3.10: 128 bytes of anything, then its mark)."""
    return head[128:132] == b"DICM"


def is_zip(head: bytes) -> bool:
    """Tell a ZIP archive, an empty one too."""
    return head.startswith(_ZIPS)


def is_archive(head: bytes) -> bool:
    """Tell a file that holds or may hold others."""
    return head.startswith(_ARCHIVES)


def looks_like(head: bytes) -> str:
    """Return what a file is, as far as its first few hundred bytes tell."""
    if not head:
        return "an empty file"
    for offset, magic, words in _MAGICS:
        if head[offset : offset + len(magic)] == magic:
            return words
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page (HTML), perhaps an error or a login page instead of the download"
    if text.startswith(b"<"):
        return "an XML document"
    if all(byte in _ASCII for byte in head):
        return "a text file"
    return "no format that this service knows"
