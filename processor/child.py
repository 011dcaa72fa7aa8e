"""The child process that runs the network, so that nothing it does can hold up or kill the worker.

TensorFlow keeps every core busy for seconds and takes native memory; in the worker's own process it would
delay the renewal of the lease, and its crash would end the worker. The worker's process never imports it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from pipeline.errors import CorestreamError
from pipeline.report import Precision
from pipeline.streams import TransientError
from processor.models import Model
from processor.printed import Printed, print_into

if TYPE_CHECKING:  # importing it takes TensorFlow along
    from processor.detection.detector import Detector


class DetectionDiedError(CorestreamError, TransientError):
    """Raised when the child process died on a scan: out of memory, killed, crashed."""


class DetectionTimeoutError(CorestreamError, TransientError):
    """Raised when a detection overran its time and was ended."""


class Detection(Protocol):
    """What the child process runs. Travels there pickled, with every call."""

    def load(self) -> None:
        """Get ready, so that the first scan need not wait."""

    def detect(self, scan: Path, out_dir: Path, job_id: str, scan_id: str) -> None:
        """Write the files of one volume's result, as `DetectionChild.detect` describes it."""


@dataclass(frozen=True)
class NetworkDetection:
    """The detection by a network.

    Attributes:
        model: The network to load.
        precision: The wanted one.
    """

    model: Model
    precision: Precision = "float32"

    # TensorFlow is imported inside the methods, which run in the child: the worker imports this module too.

    def load(self) -> None:
        """Load the network and trace its graph."""
        _detector(self.model, self.precision)

    def detect(self, scan: Path, out_dir: Path, job_id: str, scan_id: str) -> None:
        """Run the network on one volume."""
        from processor.detect import detect_scan  # noqa: PLC0415

        detector = _detector(self.model, self.precision)
        detect_scan(scan, out_dir, detector, model=self.model, job_id=job_id, scan_id=scan_id)


@cache
def _detector(model: Model, precision: Precision) -> Detector:
    from processor.detect import load_detector  # noqa: PLC0415

    return load_detector(model, precision)


class DetectionChild:
    """One warmed child process; it is replaced when it dies, and only the scan it ran is affected.

    Args:
        detection: What it runs.
        timeout_s: A detection that takes longer is ended.
    """

    def __init__(self, detection: Detection, timeout_s: float) -> None:
        self._detection = detection
        self._timeout_s = timeout_s
        self._printed = Printed()
        self._pool = self._new_pool()

    async def warm(self) -> None:
        """Load the network, so that the first scan finds it ready.

        Raises:
            ConfigurationError: The model cannot be loaded.
            DetectionDiedError: The child died of it.
        """
        await self._end_of(self._schedule(self._detection.load))

    async def detect(self, scan: Path, out_dir: Path, *, job_id: str, scan_id: str) -> None:
        """Run the detection of one volume; a cancelled call ends the child.

        Args:
            scan: The volume.
            out_dir: An existing folder for the result's files.
            job_id: Stands in the report.
            scan_id: The same.

        Raises:
            ScanRefusedError: The volume cannot be processed.
            DetectionDiedError: The child died.
            DetectionTimeoutError: It overran its time.
        """
        arguments = (scan, out_dir, job_id, scan_id)
        await self._end_of(self._schedule(self._detection.detect, arguments, self._timeout_s))

    async def _end_of(self, future: ProcessFuture[None]) -> None:
        try:
            await asyncio.wrap_future(future)
        except ProcessExpired as error:
            raise DetectionDiedError(
                f"The detection's process died (exit status {error.exitcode})."
            ) from error
        except BrokenProcessPool as error:
            raise DetectionDiedError("The detection's process died before it began.") from error
        except TimeoutError as error:
            raise DetectionTimeoutError(
                f"The detection was ended after {self._timeout_s:g} s (CORESTREAM_SCAN_TIMEOUT_S)."
            ) from error

    def _schedule(
        self, work: Callable[..., None], args: tuple[object, ...] = (), timeout_s: float | None = None
    ) -> ProcessFuture[None]:
        try:
            return self._pool.schedule(work, args=args, timeout=timeout_s)
        except RuntimeError:  # a pool whose only process died between two tasks is broken for good
            self._end_pool()
            self._pool = self._new_pool()
            return self._pool.schedule(work, args=args, timeout=timeout_s)

    def close(self) -> None:
        """End the child, whatever it is doing."""
        self._end_pool()
        self._printed.close()

    def _end_pool(self) -> None:
        self._pool.stop()
        self._pool.join()

    def _new_pool(self) -> ProcessPool:
        return ProcessPool(
            max_workers=1,
            initializer=_prepare_process,
            initargs=(self._printed.writer,),
            context=multiprocessing.get_context("spawn"),  # a forked TensorFlow deadlocks
        )


def _prepare_process(printed: Connection) -> None:
    """Let the parent alone decide when this process ends, and have it log what is printed here."""
    print_into(printed)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent drains
    parent = multiprocessing.parent_process()

    def follow_parent() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)  # the parent was killed: its scan is another worker's now

    threading.Thread(target=follow_parent, daemon=True).start()
