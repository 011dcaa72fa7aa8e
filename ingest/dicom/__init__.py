"""DICOM: one CT series, loose or in a ZIP archive, becomes one NIfTI volume.

`child` is what the door calls. Everything else runs in a process of its own with limits on memory, time and
file size, because archives, headers and compressed pixels are read by code that trusts their claims.
"""
