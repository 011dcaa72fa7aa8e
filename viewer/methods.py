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
        "  title        = {corestream: stroke-core saliency maps from {CT} angiograms},\n"
        f"  howpublished = {{Software, version {version}}},\n"
        f"  note         = {{{RESEARCH_USE_ONLY}}}\n"
        "}"
    )
    papers = [_GRAD_CAM]
    if report.model.name == _PUBLISHED_WEIGHTS:
        papers.append(_GIANCARDO_2023)
    return "\n\n".join((own, *papers))


def citation_note(report: Report) -> str:
    """Say what is and what is not known of the papers' relation to the model."""
    if report.model.name == _PUBLISHED_WEIGHTS:
        return (
            "The weights were published without a paper of their own; the article is by their authors' "
            f"group, on the same task. {_VARIANT}"
        )
    return _VARIANT


def _software(report: Report) -> str:
    version = report.software.get("corestream", "unknown")
    others = ", ".join(f"{name} {v}" for name, v in report.software.items() if name != "corestream")
    return f"The scan was processed with corestream {version} ({others})."


def _grid(report: Report) -> str:
    shape = " × ".join(map(str, report.input.shape))  # noqa: RUF001 (times sign)
    spacing = " × ".join(f"{v:.2f}" for v in report.input.voxel_size_mm)  # noqa: RUF001 (times sign)
    came = f"It came as {shape} voxels of {spacing} mm (orientation {report.input.orientation})"
    alignment = report.alignment
    if not alignment.applied:
        return f"{came}, on the network's grid, and was not resampled."
    quality = ", ".join(f"{k.replace('_', ' ')} {v:.3g}" for k, v in (alignment.quality or {}).items())
    how = f"{alignment.method}; {quality}" if quality else alignment.method
    return f"{came} and was brought onto the network's grid ({how})."


def _network(report: Report) -> str:
    model = report.model
    trained = model.trained_on.rstrip(".")
    return f"The network was {model.name} (weights SHA-256 {model.sha256}; trained on: {trained})."


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
