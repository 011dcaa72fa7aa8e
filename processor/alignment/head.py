"""The head in a coarse scan, and the cavity of its skull.

The cavity is what the skull closes off: bone, thickened until its sutures, foramina and thin places are
shut, leaves a core of brain inside, and that core is grown back as far as bone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from processor.alignment.coarse import AIR_HU, COARSE_MM, CoarseVolume
from processor.alignment.space import Floats, Mask

BRAIN_REACH_MM = 165.0
"""From the vertex down; what lies below is neck, shoulders, table."""

_TISSUE_HU = -250
"""Skin and fat lie above, air, hair and foam below."""
_OPENING_MM = 4.5
"""Takes off what is thin: head holder, table, tubes."""
_COARSER_OPENING_MM = 9.0
"""The same in every second voxel."""
_LEAST_BRAIN_HU = -60
"""Fat, which partial volumes come near."""
_BONE_HU = 250
"""Where brain ends and bone begins in voxels of 3 mm."""
_PADDING = 4
"""Voxels of air put around the head, so that it touches no edge."""
_UNPADDED = slice(_PADDING, -_PADDING)


@dataclass(frozen=True)
class Wall:
    """How bone is made into a closed wall.

    Attributes:
        bone_hu: Voxels above are bone.
        thickness_mm: By which bone is thickened on every side.
        regrown_mm: By which the brain's core is grown back; more than the thickness where the threshold is
            so low that the wall was thicker than bone from the start.
    """

    bone_hu: float
    thickness_mm: float
    regrown_mm: float


WALLS = (
    Wall(_BONE_HU, 7.5, 7.5),
    Wall(200, 7.5, 9.0),
    Wall(_BONE_HU, 10.5, 10.5),
    Wall(160, 10.5, 12.0),
    Wall(400, 7.5, 7.5),
)
"""Thick slices blur bone, and the roof of an orbit is thin: they need a lower threshold or a thicker wall;
bright vessels and thick skulls a higher one."""


@dataclass(frozen=True)
class Head:
    """The head in a box of its own, which is padded by air.

    Attributes:
        hu: (x', y', z'), of the box.
        mask: (x', y', z'), of the head, without what lies below the brain's reach.
        depth_mm: (x', y', z'), from the mask's edge inwards.
        box: Where the box lies in the coarse scan, less its padding.
        shape: Of the coarse scan.
        lowest: Index along z of the coarse scan, below which nothing is looked at.
    """

    hu: Floats
    mask: Mask
    depth_mm: Floats
    box: tuple[slice, slice, slice]
    shape: tuple[int, ...]
    lowest: int


@dataclass(frozen=True)
class Cavity:
    """The inside of a skull.

    Attributes:
        mask: (x, y, z) of the coarse scan.
        lowest: Index along z below which the scan was not looked at.
        volume_ml: Of the mask.
        skull_share: Of its boundary, the part that has bone within two voxels, 0 ... 1.
    """

    mask: Mask
    lowest: int
    volume_ml: float
    skull_share: float


def find_head(coarse: CoarseVolume) -> Head:
    """Return the largest thing of tissue, down to the brain's reach below its vertex."""
    box = _head_box(coarse.hu)
    hu = np.pad(coarse.hu[box], _PADDING, constant_values=AIR_HU)
    tissue = hu > _TISSUE_HU
    mask = dilated(largest(_eroded(tissue, _OPENING_MM, COARSE_MM)), _OPENING_MM, COARSE_MM) & tissue
    lowest = _lowest(mask, COARSE_MM)
    mask[:, :, :lowest] = False
    return Head(
        hu=hu,
        mask=mask,
        depth_mm=ndimage.distance_transform_edt(mask, sampling=COARSE_MM).astype(np.float32),
        box=box,
        shape=coarse.hu.shape,
        lowest=box[2].start + max(0, lowest - _PADDING),
    )


def find_cavity(head: Head, wall: Wall) -> Cavity:
    """Return the cavity that one kind of wall encloses; an empty one where it encloses nothing.

    The wall says what is inside. The boundary is where bone begins, whatever the wall.
    """
    inner = _enclosed(head, wall)
    whole = np.zeros(head.shape, np.bool_)
    whole[head.box] = inner[_UNPADDED, _UNPADDED, _UNPADDED]
    return Cavity(
        mask=whole,
        lowest=head.lowest,
        volume_ml=float(whole.sum()) * COARSE_MM**3 / 1000,
        skull_share=_skull_share(head.hu, inner),
    )


def _head_box(hu: Floats) -> tuple[slice, slice, slice]:
    """Return a box around the head, found in every second voxel; the whole scan where there is none."""
    head = largest(_eroded(hu[::2, ::2, ::2] > _TISSUE_HU, _COARSER_OPENING_MM, 2 * COARSE_MM))
    if not head.any():
        x, y, z = (slice(0, length) for length in hu.shape)
        return x, y, z
    head[:, :, : _lowest(head, 2 * COARSE_MM, margin_mm=12)] = False
    x, y, z = (
        slice(max(0, 2 * (int(at.min()) - 3)), min(length, 2 * (int(at.max()) + 4)))
        for at, length in zip(np.nonzero(head), hu.shape, strict=True)
    )
    return x, y, z


def _lowest(head: Mask, voxel_mm: float, margin_mm: float = 0) -> int:
    """Return the index along z below which there is no brain."""
    if not head.any():
        return 0
    vertex = int(np.nonzero(head.any(axis=(0, 1)))[0].max())
    return max(0, int(vertex - (BRAIN_REACH_MM + margin_mm) / voxel_mm))


def _enclosed(head: Head, wall: Wall) -> Mask:
    """Return what the wall encloses: of its largest rooms the one that is large and deep."""
    hu = head.hu
    bone = (hu > wall.bone_hu) & ndimage.binary_dilation(head.mask)
    wide = dilated(bone, wall.thickness_mm, COARSE_MM)
    rooms, count = ndimage.label(head.mask & ~wide & (hu > _LEAST_BRAIN_HU))
    if count == 0:
        return np.zeros_like(head.mask)
    size_times_depth = ndimage.sum_labels(head.depth_mm, rooms, np.arange(1, count + 1))
    core = rooms == int(np.argmax(size_times_depth)) + 1
    grown = dilated(core, wall.regrown_mm, COARSE_MM) & head.mask & (hu < _BONE_HU)
    filled = ndimage.binary_fill_holes(grown)
    return largest(_opened(filled, 2.1 * COARSE_MM))


def _skull_share(hu: Floats, inner: Mask) -> float:
    """Return how much of a cavity's boundary has bone within two voxels."""
    if not inner.any():
        return 0.0
    boundary = inner & ~ndimage.binary_erosion(inner)
    near_bone = ndimage.maximum_filter(hu, size=5)[boundary] > _BONE_HU
    return float(near_bone.mean())


def largest(mask: Mask) -> Mask:
    """Return the largest connected part of a mask."""
    parts, count = ndimage.label(mask)
    if count <= 1:
        return mask
    sizes: npt.NDArray[np.int64] = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(parts == sizes.argmax(), np.bool_)


def dilated(mask: Mask, radius_mm: float, voxel_mm: float) -> Mask:
    """Return a mask grown by a ball, with the distances that a structuring element only approximates."""
    if not mask.any():
        return mask
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=voxel_mm) <= radius_mm, np.bool_)


def _eroded(mask: Mask, radius_mm: float, voxel_mm: float) -> Mask:
    """Return a mask less a ball; beyond the volume's edge lies nothing of it."""
    distance_mm = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=voxel_mm)[1:-1, 1:-1, 1:-1]
    return np.asarray(distance_mm > radius_mm, np.bool_)


def _opened(mask: Mask, radius_mm: float) -> Mask:
    return dilated(_eroded(mask, radius_mm, COARSE_MM), radius_mm, COARSE_MM)
