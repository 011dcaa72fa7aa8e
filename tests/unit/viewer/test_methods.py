"""The methods paragraph: everything in it is the report's, and no paper is claimed that is not known."""

from __future__ import annotations

from pipeline.report import Alignment, ModelFacts, Report
from tests.support.results import report
from viewer.methods import bibtex, citation_note, methods_text


def made_by(name: str) -> Report:
    """Return the report of a result of a model of that name."""
    model = ModelFacts(name=name, sha256="ef" * 32, description="", trained_on="CT angiograms.")
    return report("a" * 32, "b" * 32).model_copy(update={"model": model})


def test_the_paragraph_names_versions_weights_error_and_map() -> None:
    """It can be pasted into a paper as it is."""
    text = methods_text(report("a" * 32, "b" * 32))
    for words in (
        "corestream 0.1.0 (tensorflow 2.21.0)",
        "146 \N{MULTIPLICATION SIGN} 182 \N{MULTIPLICATION SIGN} 133 voxels",
        "was not resampled",
        f"weights SHA-256 {'cd' * 32}; trained on: synthetic CT angiograms)",
        "23.5 ml; RMSE 10.5 ml",
        "raw maximum was 0.0123 (floor: 0.001)",
        "Research use only. Not for diagnosis.",
    ):
        assert words in text


def test_an_aligned_scan_says_how_well() -> None:
    """A reader of the paper can tell registration from its absence."""
    aligned = Alignment(method="affine", applied=True, quality={"mutual_information": 0.5123})
    text = methods_text(report("a" * 32, "b" * 32).model_copy(update={"alignment": aligned}))
    assert "was brought onto the network's grid (affine; mutual information 0.512)" in text


def test_only_the_published_weights_cite_their_group() -> None:
    """The demonstration model has nothing to do with their data."""
    assert "giancardo2023segmentation" in bibtex(made_by("giancardo2020"))
    assert "without a paper of their own" in citation_note(made_by("giancardo2020"))
    assert "giancardo" not in bibtex(made_by("demo"))
    assert "selvaraju2017gradcam" in bibtex(made_by("demo"))
    assert "version 0.1.0" in bibtex(made_by("demo"))
