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
        "corestream 0.1.0 (TensorFlow 2.21.0)",
        "146 \N{MULTIPLICATION SIGN} 182 \N{MULTIPLICATION SIGN} 133 voxels",
        "was not resampled",
        f"weights SHA-256 {'cd' * 32}; trained on: synthetic CT angiograms), computed in float32.",
        "23.5 ml; RMSE 10.5 ml",
        "raw maximum was 0.0123 (floor: 0.001)",
        "Research use only. Not for diagnosis.",
    ):
        assert words in text


def test_the_fast_precision_is_told() -> None:
    """Its numbers are not those of float32."""
    text = methods_text(report("a" * 32, "b" * 32).model_copy(update={"precision": "fast"}))
    assert "computed in float32 but for two convolutions in bfloat16." in text


def test_an_aligned_scan_says_how_well() -> None:
    """A reader of the paper can tell registration from its absence."""
    quality = {"dice": 0.9612, "surface_rms_mm": 1.5123}
    aligned = Alignment(method="affine", applied=True, quality=quality)
    made = report("a" * 32, "b" * 32).model_copy(update={"alignment": aligned})
    assert "Lowekamp et al., 2013): affine; dice 0.9612, surface rms 1.512 mm." in methods_text(made)
    assert {"fonov2009unbiased", "lowekamp2013simpleitk"} <= entries(bibtex(made))


def test_only_the_published_weights_cite_their_group() -> None:
    """The demonstration model has nothing to do with their data."""
    theirs = {"sheth2019machine", "giancardo2023segmentation"}
    assert entries(bibtex(made_by("giancardo2020"))) == {"corestream", "selvaraju2017gradcam"} | theirs
    assert "Sheth et al. (2019) and Giancardo et al. (2023)" in methods_text(made_by("giancardo2020"))
    assert "without a paper of their own" in citation_note(made_by("giancardo2020"))
    assert entries(bibtex(made_by("demo"))) == {"corestream", "selvaraju2017gradcam"}
    assert "Giancardo" not in methods_text(made_by("demo"))
    assert "version 0.1.0" in bibtex(made_by("demo"))


def entries(text: str) -> set[str]:
    """Return the keys of BibTeX entries, each of which closes as many braces as it opens."""
    found = text.split("\n\n")
    assert all(entry.count("{") == entry.count("}") for entry in found)
    return {entry.partition("{")[2].partition(",")[0] for entry in found}
