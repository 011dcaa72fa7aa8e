"""A processor whose detection is a stand-in of adjustable length: `python -m tests.support.chaos.stand_in`.

Everything but the network is the processor's own: its worker, its child process, its way of publishing. The
stand-in sleeps, then writes prepared files of the real size and form, with a report about this very scan.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from isal import igzip

from pipeline import logging
from pipeline.errors import ScanRefusedError
from pipeline.files import write_whole
from pipeline.report import Report
from pipeline.service import run_worker
from pipeline.settings import load
from processor.settings import ProcessorSettings
from processor.worker import serve

VARIABLE = "CHAOS_STAND_IN"
"""Environment: the fields of `StandIn` as JSON."""
REFUSED_MARK = 1234
"""First voxel of a scan that the stand-in refuses, as the detection refuses what is no head."""
_FIRST_VOXEL_BYTES = 352


@dataclass(frozen=True)
class StandIn:
    """A detection that takes time and nothing else.

    Attributes:
        prepared: Folder with the files of a result, and `report.json` to be filled in.
        record: File to which every start and end is appended, one JSON object a line.
        shortest_s: Least time that a scan takes; which it takes follows from its id.
        longest_s: Most.
    """

    prepared: str
    record: str
    shortest_s: float
    longest_s: float

    def load(self) -> None:
        """Nothing is to be loaded."""

    def detect(self, scan: Path, out_dir: Path, job_id: str, scan_id: str) -> None:
        """Sleep, then write the result of a scan.

        Raises:
            ScanRefusedError: The scan carries the mark.
        """
        self._note("start", job_id, scan_id)
        content = scan.read_bytes()
        fraction = int(hashlib.sha256(scan_id.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
        time.sleep(self.shortest_s + fraction * (self.longest_s - self.shortest_s))
        with igzip.open(scan) as volume:
            (first_voxel,) = struct.unpack("<h", volume.read(_FIRST_VOXEL_BYTES + 2)[-2:])
        if first_voxel == REFUSED_MARK:
            self._note("end", job_id, scan_id)
            raise ScanRefusedError(
                code="not-a-head", title="No head found", detail="Expected a head, received the mark."
            )
        self._publish(content, out_dir, job_id, scan_id)
        self._note("end", job_id, scan_id)

    def _publish(self, scan: bytes, out_dir: Path, job_id: str, scan_id: str) -> None:
        for file in Path(self.prepared).iterdir():
            if file.name != "report.json":
                write_whole(out_dir / file.name, file.read_bytes())
        write_whole(out_dir / "aligned.nii.gz", scan)
        document = json.loads((Path(self.prepared) / "report.json").read_bytes())
        document |= {"job_id": job_id, "scan_id": scan_id}
        document["input"]["sha256"] = hashlib.sha256(scan).hexdigest()
        report = Report.model_validate_json(json.dumps(document))
        write_whole(out_dir / "report.json", report.model_dump_json(by_alias=True, indent=1).encode())

    def _note(self, what: str, job_id: str, scan_id: str) -> None:
        line = {
            "what": what,
            "job_id": job_id,
            "scan_id": scan_id,
            "pid": os.getpid(),
            "parent": os.getppid(),
            "at": time.time(),
        }
        with Path(self.record).open("ab", buffering=0) as record:
            record.write(json.dumps(line).encode() + b"\n")  # one write of O_APPEND: lines never mix


def main() -> None:
    """Run the processor from the environment until it is told to stop."""
    settings = load(ProcessorSettings)
    logging.configure("processor", settings.log_format)
    detection = StandIn(**json.loads(os.environ[VARIABLE]))
    run_worker(lambda stop: serve(settings, stop, detection))


if __name__ == "__main__":  # the child process imports this module too
    main()
