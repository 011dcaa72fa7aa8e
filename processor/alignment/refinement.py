"""The refinement of a surface fit by what lies inside: sulci, ventricles, the two hemispheres.

Mutual information (Mattes et al., 2003) needs no model of how T1 and Hounsfield units go together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from processor.alignment.coarse import CoarseVolume
from processor.alignment.head import Cavity
from processor.alignment.space import Affine, Floats
from processor.alignment.template import Template

_BRAIN_WINDOW_HU = (0, 80)
"""Brain, fluid and blood; contrast and bone are one level above."""
_BINS = 32
_SHRINK = 2
_SMOOTHING_MM = 2.0
_SAMPLED_SHARE = 0.2
_SEED = 7
_ITERATIONS = 40
_STEP_MM = (1.0, 0.02)
"""First and last length of a step."""
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""(4, 4), between RAS, which is ours, and LPS, which is ITK's."""


def refine(to_scan: Affine, coarse: CoarseVolume, cavity: Cavity, template: Template) -> Affine:
    """Return a transform under which the brain's tissue too lies on the template's.

    Args:
        to_scan: (4, 4), MNI152 world space to scan world space.
        coarse: The scan.
        cavity: Of its skull.
        template: The brain.

    Returns:
        Affine: (4, 4), of the same spaces; always the same for the same arguments.
    """
    import SimpleITK as sitk  # noqa: N813, PLC0415 - its own short name; scans on the grid never need it

    brain = np.where(cavity.mask, np.clip(coarse.hu, *_BRAIN_WINDOW_HU), 0).astype(np.float32)
    moving = ndimage.gaussian_filter(brain, 0.5)
    # Sums of several threads depend on their order. The metric inside the method takes the global number.
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    registration = sitk.ImageRegistrationMethod()
    registration.SetMetricAsMattesMutualInformation(_BINS)
    registration.SetMetricSamplingStrategy(registration.RANDOM)
    registration.SetMetricSamplingPercentage(_SAMPLED_SHARE, _SEED)
    registration.SetInterpolator(sitk.sitkLinear)
    registration.SetOptimizerAsRegularStepGradientDescent(
        *_STEP_MM, _ITERATIONS, relaxationFactor=0.6, gradientMagnitudeTolerance=1e-6
    )
    registration.SetOptimizerScalesFromPhysicalShift()
    registration.SetShrinkFactorsPerLevel([_SHRINK])
    registration.SetSmoothingSigmasPerLevel([_SMOOTHING_MM])
    registration.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    lps = _LPS @ to_scan @ _LPS
    centre = _LPS[:3, :3] @ template.centroid_mm
    itk_transform = sitk.AffineTransform(3)
    itk_transform.SetCenter(centre.tolist())
    itk_transform.SetMatrix(lps[:3, :3].ravel().tolist())
    itk_transform.SetTranslation((lps[:3, 3] - centre + lps[:3, :3] @ centre).tolist())
    registration.SetInitialTransform(itk_transform, inPlace=True)
    registration.Execute(_itk_image(template.t1, template.affine), _itk_image(moving, coarse.affine))
    refined = np.eye(4)
    refined[:3, :3] = np.reshape(itk_transform.GetMatrix(), (3, 3))
    refined[:3, 3] = itk_transform.GetTranslation() + centre - refined[:3, :3] @ centre
    return _LPS @ refined @ _LPS


def _itk_image(values: Floats, affine: Affine) -> Any:  # noqa: ANN401 - SimpleITK carries no types
    """Return an ITK image of a volume whose axes are the world's."""
    import SimpleITK as sitk  # noqa: N813, PLC0415 - the same

    lps = _LPS @ affine
    sizes_mm = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
    image.SetSpacing(sizes_mm.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / sizes_mm).ravel().tolist())
    return image
