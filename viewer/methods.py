"""A paragraph for a paper's methods section, and what to cite, filled in from a report."""

from __future__ import annotations

from pipeline.report import RESEARCH_USE_ONLY, Report

_GRAD_CAM = """@inproceedings{selvaraju2017gradcam,
  author    = {Selvaraju, Ramprasaath R. and Cogswell, Michael and Das, Abhishek and Vedantam, Ramakrishna
               and Parikh, Devi and Batra, Dhruv},
  title     = {{Grad-CAM}: Visual Explanations from Deep Networks via Gradient-Based Localization},
  booktitle = {2017 IEEE International Conference on Computer Vision (ICCV)},
  pages     = {618--626},
  year      = {2017},
  doi       = {10.1109/ICCV.2017.74}
}"""

_GIANCARDO_2023 = """@article{giancardo2023segmentation,
  author  = {Giancardo, Luca and Niktabe, Arash and Ocasio, Laura and Abdelkhaleq, Rania
             and Salazar-Marioni, Sergio and Sheth, Sunil A.},
  title   = {Segmentation of acute stroke infarct core using image-level labels on {CT}-angiography},
  journal = {NeuroImage: Clinical},
  volume  = {37},
  pages   = {103362},
  year    = {2023},
  doi     = {10.1016/j.nicl.2023.103362}
}"""

_SHETH_2019 = """@article{sheth2019machine,
  author  = {Sheth, Sunil A. and Lopez-Rivera, Victor and Barman, Arko and Grotta, James C. and Yoo, Albert J.
             and Lee, Songmi and Inam, Mehmet E. and Savitz, Sean I. and Giancardo, Luca},
  title   = {Machine Learning--Enabled Automated Determination of Acute Ischemic Core From Computed
             Tomography Angiography},
  journal = {Stroke},
  volume  = {50},
  number  = {11},
  pages   = {3093--3100},
  year    = {2019},
  doi     = {10.1161/STROKEAHA.119.026189}
}"""

_TEMPLATE = """@article{fonov2009unbiased,
  author  = {Fonov, Vladimir S. and Evans, Alan C. and McKinstry, Robert C. and Almli, C. Robert
             and Collins, D. Louis},
  title   = {Unbiased nonlinear average age-appropriate brain templates from birth to adulthood},
  journal = {NeuroImage},
  volume  = {47},
  number  = {Supplement 1},
  pages   = {S102},
  year    = {2009},
  doi     = {10.1016/S1053-8119(09)70884-5}
}"""

_SIMPLE_ITK = """@article{lowekamp2013simpleitk,
  author  = {Lowekamp, Bradley C. and Chen, David T. and Ib{\\'a}{\\~n}ez, Luis and Blezek, Daniel},
  title   = {The Design of {SimpleITK}},
  journal = {Frontiers in Neuroinformatics},
  volume  = {7},
  pages   = {45},
  year    = {2013},
  doi     = {10.3389/fninf.2013.00045}
}"""

_NAMES = {"tensorflow": "TensorFlow", "numpy": "NumPy", "simpleitk": "SimpleITK", "python": "Python"}
"""How software writes itself."""
_UNITS = ("mm", "ml", "cm2")
"""At the ends of the names of an alignment's figures."""
_VARIANT = "The map is a variant of Grad-CAM: it weighs the gradient, not the activation."
_PUBLISHED_WEIGHTS = "giancardo2020"


def methods_text(report: Report) -> str:
    """Return a paragraph that says how a result was made: versions, model, weights, alignment, error."""
    return " ".join(
        (_software(report), _grid(report), _network(report), _number(report), _map(report), RESEARCH_USE_ONLY)
    )


def bibtex(report: Report) -> str:
    """Return the entries that the paragraph refers to: this software, and the papers behind the method."""
    version = report.software.get("corestream", "unknown")
    own = (
        "@misc{corestream,\n"
        "  key          = {corestream},\n"
        "  title        = {corestream: stroke-core saliency maps from {CT} angiograms},\n"
        f"  howpublished = {{Software, version {version}}},\n"
        f"  note         = {{{RESEARCH_USE_ONLY}}}\n"
        "}"
    )
    network = (_SHETH_2019, _GIANCARDO_2023) if report.model.name == _PUBLISHED_WEIGHTS else ()
    alignment = (_TEMPLATE, _SIMPLE_ITK) if report.alignment.applied else ()
    return "\n\n".join((own, *alignment, *network, _GRAD_CAM))


def citation_note(report: Report) -> str:
    """Say what is and what is not known of the papers' relation to the model."""
    if report.model.name == _PUBLISHED_WEIGHTS:
        return (
            "The weights were published without a paper of their own; the articles are by their authors' "
            f"group, on the same task. {_VARIANT}"
        )
    return _VARIANT


def _software(report: Report) -> str:
    version = report.software.get("corestream", "unknown")
    others = ", ".join(
        f"{_NAMES.get(name, name)} {v}" for name, v in report.software.items() if name != "corestream"
    )
    return f"The scan was processed with corestream {version} ({others})."


def _grid(report: Report) -> str:
    shape = " × ".join(map(str, report.input.shape))  # noqa: RUF001 (times sign)
    spacing = " × ".join(f"{v:.2f}" for v in report.input.voxel_size_mm)  # noqa: RUF001 (times sign)
    came = f"It came as {shape} voxels of {spacing} mm (orientation {report.input.orientation})"
    alignment = report.alignment
    if not alignment.applied:
        return f"{came}, the shape of the network's grid, was taken as aligned to it, and was not resampled."
    quality = ", ".join(_figure(name, value) for name, value in (alignment.quality or {}).items())
    how = f"{alignment.method}; {quality}" if quality else alignment.method
    return (
        f"{came} and was aligned to the network's grid in MNI152 space (template of Fonov et al., 2009; "
        f"SimpleITK, Lowekamp et al., 2013): {how}."
    )


def _figure(name: str, value: float) -> str:
    """Write a figure of an alignment with its unit, which stands at the end of its name."""
    words, _, last = name.replace("_", " ").rpartition(" ")
    return f"{words} {value:.4g} {last}" if last in _UNITS else f"{name.replace('_', ' ')} {value:.4g}"


def _network(report: Report) -> str:
    model = report.model
    trained = model.trained_on.rstrip(".")
    source = (
        "the published weights of the Giancardo Lab, for whose approach see Sheth et al. (2019) and "
        "Giancardo et al. (2023); "
        if model.name == _PUBLISHED_WEIGHTS
        else ""
    )
    arithmetic = "float32" + (" but for two convolutions in bfloat16" if report.precision == "fast" else "")
    return (
        f"The network was {model.name} ({source}weights SHA-256 {model.sha256}; trained on: {trained}), "
        f"computed in {arithmetic}."
    )


def _number(report: Report) -> str:
    estimate = report.core_estimate
    off = (
        f"; RMSE {estimate.rmse:g} {estimate.unit}"
        if estimate.rmse is not None
        else "; its error is not known"
    )
    return f"Its core estimate was {estimate.value:.1f} {estimate.unit}{off}. {estimate.note}"


def _map(report: Report) -> str:
    saliency = report.saliency
    floor = "none is established" if saliency.floor is None else f"{saliency.floor:.3g}"
    return (
        "The saliency map, a variant of Grad-CAM (Selvaraju et al., 2017), shows regions that moved the "
        f"estimate, not the outline of a lesion; its raw maximum was {saliency.raw_max:.3g} (floor: {floor})."
    )
