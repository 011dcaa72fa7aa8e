"""A header is judged the same by the service's door and by the commands that read a file themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.nifti import read_layout
from pipeline.errors import ScanRefusedError
from pipeline.nifti.header import NIFTI1_BYTES
from pipeline.web.problems import ProblemError
from processor.volumes import read_volume
from tests.support.bad_scans import REFUSALS

OF_THE_HEADER = {
    *("dimensions-invalid", "not-a-volume", "datatype-unsupported", "voxel-offset-invalid"),
    *("scaling-invalid", "orientation-invalid", "orientation-unknown", "orientation-contradictory"),
}
CASES = {name: build for name, (build, _, code, _) in REFUSALS.items() if code in OF_THE_HEADER}


@pytest.mark.parametrize("build", CASES.values(), ids=CASES.keys())
def test_the_door_and_the_reader_refuse_a_header_in_the_same_words(
    tmp_path: Path, build: Callable[[], bytes]
) -> None:
    """Code, title and detail: who tried it with `corestream align` meets nothing new at the service."""
    content = build()
    (tmp_path / "scan").write_bytes(content)
    with pytest.raises(ScanRefusedError) as by_reader:
        read_volume(tmp_path / "scan")
    with pytest.raises(ProblemError) as at_door:
        read_layout(content[:NIFTI1_BYTES])
    problem = at_door.value
    assert by_reader.value.failure.model_dump() == {
        "code": problem.code,
        "title": problem.title,
        "detail": problem.detail,
    }
