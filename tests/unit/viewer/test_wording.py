"""What pages list of a result."""

from __future__ import annotations

from tests.support.results import report
from viewer import wording


def test_the_facts_name_weights_voxels_and_times() -> None:
    """What one needs to trust or reject a result."""
    listed = dict(wording.facts(report("a" * 32, "b" * 32)))
    assert listed["Weights SHA-256"] == "cd" * 32
    assert listed["Precision"] == "float32"
    assert "1.00" in listed["Scan"]
    assert "146" in listed["Scan"]
    assert listed["Time"] == "read 0.12 s, network 2.31 s, write 0.84 s"
    assert "Strongest at (x, y, z)" in listed
    assert "Strongest at (x, y, z)" not in dict(wording.facts(report("a" * 32, "b" * 32, positive=False)))
