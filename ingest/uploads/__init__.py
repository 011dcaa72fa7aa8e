"""Resumable uploads of one file each, after tus 1.0.0 (https://tus.io); jobs take them when complete."""
