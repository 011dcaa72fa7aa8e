"""What one scan costs: `python benchmarks/detection.py [--model NAME|PATH] [--scan FILE] [--repeats N]`.

Prints a table and writes benchmarks/results/detection.json. CPU-seconds are those of the whole process, every
thread's; the machine's other work hardly changes them, while it changes wall time at will. The floor is what
the network's floating-point operations would cost at the rate of a large float32 matrix product, measured in
the same run.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
MATRIX = 4096
"""Side of the matrices whose product gives the rate; 0.14 Tflop."""
LAUNCH = "import processor.detect, pathlib; from processor.models import resolve_model; {then}"
WARM = "processor.detect.load_detector(resolve_model({model!r}, pathlib.Path('models')))"


def cpu_s(work: Callable[[], Any]) -> float:
    """Return the CPU-seconds that this process spends on a piece of work."""
    before = time.process_time()
    work()
    return time.process_time() - before


def start_s(code: str) -> tuple[float, float]:
    """Return the wall and the CPU-seconds of a new Python that runs some code."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    wall_s = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def operations(filters: int) -> float:
    """Return the floating-point operations of one scan: two for each weight at each of its voxels."""
    shape, total = (73, 182, 133), 0
    inputs = 1
    for block in range(5):
        runs = 2 if block < 3 else 1  # noqa: PLR2004 - the branch has three blocks and sees both hemispheres
        for _ in range(3):
            total += runs * 2 * 27 * inputs * filters * math.prod(shape)
            inputs = filters
        shape = tuple(-(-length // 2) for length in shape)  # type: ignore[assignment]  # still three
    return float(total)


def measure(model_name: str, scan: Path, repeats: int) -> dict[str, float]:
    """Return every figure, CPU-seconds as medians."""
    import tensorflow as tf  # noqa: PLC0415 - the cold start is measured first, in other processes

    from processor.detect import detect_scan, load_detector  # noqa: PLC0415
    from processor.detection.weights import read_weights  # noqa: PLC0415
    from processor.models import resolve_model  # noqa: PLC0415
    from processor.outputs import write_outputs  # noqa: PLC0415
    from processor.volumes import read_volume  # noqa: PLC0415

    model = resolve_model(model_name, Path("models"))
    detector = load_detector(model)
    matrix = tf.random.normal((MATRIX, MATRIX))
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)))
    product()
    rates, wholes, networks, peaks_kb = [], [], [], []
    volume = read_volume(scan)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        for _ in range(repeats):
            rates.append(2 * MATRIX**3 / cpu_s(product))
            wholes.append(cpu_s(lambda: detect_scan(scan, out, detector, model=model)))
            peaks_kb.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            networks.append(cpu_s(lambda: detector.detect(volume.hu)))
        detection = detector.detect(volume.hu)
        report = detect_scan(scan, out, detector, model=model)
        writings = [
            cpu_s(lambda: write_outputs(out, volume, detection.saliency, model, report))
            for _ in range(repeats)
        ]
    flop = operations(read_weights(model.path).core_dense.kernel.shape[0])
    floor = flop / statistics.median(rates)
    return {
        "scan_cpu_s": statistics.median(wholes),
        "arrays_to_map_cpu_s": statistics.median(networks),
        "picture_and_files_cpu_s": statistics.median(writings),
        "network_flop": flop,
        "float32_gflop_per_cpu_s": statistics.median(rates) / 1e9,
        "network_floor_cpu_s": floor,
        "arrays_to_map_over_floor": statistics.median(networks) / floor,
        "peak_memory_mb": peaks_kb[-1] / 1024,
        "memory_growth_after_first_scan_mb": (peaks_kb[-1] - peaks_kb[0]) / 1024,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--scan", type=Path, help="a volume on the grid; a synthetic one by default")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    figures: dict[str, float] = {}
    for name, then in (("import", "pass"), ("ready", WARM.format(model=options.model))):
        wall_s, used_s = start_s(LAUNCH.format(then=then))
        figures |= {f"cold_{name}_wall_s": wall_s, f"cold_{name}_cpu_s": used_s}
    with tempfile.TemporaryDirectory() as folder:
        scan = options.scan
        if scan is None:
            from processor.synthetic.samples import write_samples  # noqa: PLC0415

            scan = write_samples(Path(folder), count=1)[0]
        figures |= measure(options.model, scan, options.repeats)
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:<{width}}  {value:,.3g}" if value < 1e6 else f"{name:<{width}}  {value:.3g}")  # noqa: PLR2004
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "detection.json").write_text(
        json.dumps({"model": options.model, "repeats": options.repeats, **figures}, indent=1)
    )


if __name__ == "__main__":
    main()
