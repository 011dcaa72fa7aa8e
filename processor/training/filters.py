"""The first block, designed rather than learned: it costs most of the time, and its task is known.

At full resolution the task is to take the noise away and to say which range of intensity is where. The first
convolution keeps the intensity, smoothed, and what is brighter than brain (contrast, bone) and darker (CSF,
air) apart; the second and third smooth; the third splits the intensity into ramps.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from processor.detection.grid import split_hemispheres
from processor.detection.weights import Affine, BatchNorm, Block

Array = npt.NDArray[np.float32]

BRIGHTER_THAN_BRAIN, DARKER_THAN_BRAIN = 0.60, 0.15
# Intensity (HU / 100) above which a ramp rises: CSF 0.08, brain 0.34 to 0.42, territory 0.2 to 0.36.
RAMPS_ABOVE = (0.16, 0.24, 0.30, 0.35, 0.40)
RAMP_BELOW = 0.38


def first_block() -> Block[Array]:
    """Return the block with as few channels as it needs: 1 to 3, 3 to 3, 3 to 8 features.

    Every output is at least 0, and about 1 on average once its normalisation has been calibrated.
    """
    smooth = _binomial()
    centre = np.zeros((3, 3, 3), np.float32)
    centre[1, 1, 1] = 1.0

    first = np.stack([smooth, centre, -centre], axis=-1)[..., None, :]
    first_bias = np.array([0.0, -BRIGHTER_THAN_BRAIN, DARKER_THAN_BRAIN], np.float32)

    second = smooth[..., None, None] * np.eye(3, dtype=np.float32)

    columns = np.array([[1, 0, 0]] * len(RAMPS_ABOVE) + [[-1, -2, 0], [0, 1, 0], [0, 0, 1]], np.float32).T
    third = smooth[..., None, None] * columns
    third_bias = np.array([*(-level for level in RAMPS_ABOVE), RAMP_BELOW, 0.0, 0.0], np.float32)

    layers = ((first, first_bias), (second, np.zeros(3, np.float32)), (third, third_bias))
    one, two, three = (Affine(kernel.astype(np.float32), bias) for kernel, bias in layers)
    return Block((one, two, three), plain_norm(third_bias.size))


def first_block_features(volume: Array) -> Array:
    """Compute what the first block makes of both hemispheres, by separable filters: seven times cheaper.

    Args:
        volume: Normalised intensity, shape (146, 182, 133).

    Returns:
        Array: (2, 37, 91, 67, 8), the left hemisphere first, the right one mirrored; before normalisation.
    """
    hemispheres = np.stack(split_hemispheres(volume))
    kept, bright, dark = (
        _smooth(_smooth(part))
        for part in (
            _smooth(hemispheres),
            np.maximum(hemispheres - BRIGHTER_THAN_BRAIN, 0.0),
            np.maximum(DARKER_THAN_BRAIN - hemispheres, 0.0),
        )
    )
    # A maximum commutes with a rising ramp; only the falling ones need their own.
    highest = _pool(kept)
    rising = [np.maximum(highest - level, 0.0) for level in RAMPS_ABOVE]
    falling = np.maximum(_pool(RAMP_BELOW - kept - 2.0 * bright), 0.0)
    return np.stack([*rising, falling, _pool(bright), _pool(dark)], axis=-1).astype(np.float32)


def _smooth(features: Array) -> Array:
    """Smooth axes 1 to 3 with the binomial kernel, zero outside as in a convolution of padding "same"."""
    for axis in (1, 2, 3):
        features = ndimage.convolve1d(features, [0.25, 0.5, 0.25], axis=axis, mode="constant")
    return features


def _pool(features: Array) -> Array:
    """Return the maximum of each 2 x 2 x 2 voxels of axes 1 to 3, the last ones alone where a size is odd."""
    for axis in (1, 2, 3):
        starts = np.arange(0, features.shape[axis], 2)
        features = np.maximum.reduceat(features, starts, axis=axis)
    return features


def plain_norm(channels: int) -> BatchNorm[Array]:
    """Return a normalisation that changes nothing (but for the epsilon)."""
    one, zero = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    return BatchNorm(gamma=one, beta=zero, moving_mean=zero, moving_variance=one)


def widen(block: Block[Array], inputs: int, filters: int) -> Block[Array]:
    """Return the same block with zero channels added, so that every convolution has `filters` outputs."""
    convolutions = []
    for layer in block.convolutions:
        kernel = np.zeros((3, 3, 3, inputs, filters), np.float32)
        kernel[..., : layer.kernel.shape[3], : layer.kernel.shape[4]] = layer.kernel
        bias = np.zeros(filters, np.float32)
        bias[: layer.bias.size] = layer.bias
        convolutions.append(Affine(kernel, bias))
        inputs = filters
    one, two, three = convolutions
    return Block((one, two, three), block.norm)


def _binomial() -> Array:
    """Return the smallest Gaussian-like kernel, (1 2 1) / 4 along each axis."""
    line = np.array([0.25, 0.5, 0.25], np.float32)
    return np.asarray(line[:, None, None] * line[None, :, None] * line[None, None, :], dtype=np.float32)
