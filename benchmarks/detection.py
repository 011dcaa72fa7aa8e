"""What one scan costs: `python benchmarks/detection.py [--model NAME|PATH] [--scan FILE]`.

Prints a table and writes benchmarks/results/detection.json. Every figure stands there in float32 and, where
CPU and model allow it, in the `fast` precision, measured in turns. CPU-seconds are those of the whole
process, every thread's; wall time depends on what else the machine does. The floor is what the network's
floating-point operations would cost at the rate of a large float32 matrix product, measured between the same
scans. Cold start, costs and memory are measured in a new process each, started as the processor starts one.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from processor.detection.precision import Precision

P = ParamSpec("P")
T = TypeVar("T")

RESULTS = Path(__file__).parent / "results"
MATRIX = 4096
"""Side of the matrices whose product gives the rate; 0.14 Tflop."""
SETTLED_SCANS = 5
"""After so many the allocator has met every size; what memory grows from there on is a leak."""


@dataclass(frozen=True)
class Cost:
    """What a piece of work took."""

    wall_s: float
    cpu_s: float

    def __sub__(self, other: Cost) -> Cost:
        """Return what was taken since another reading."""
        return Cost(self.wall_s - other.wall_s, self.cpu_s - other.cpu_s)


def now() -> Cost:
    """Return the wall time since 1970 and the CPU time of this process."""
    return Cost(time.time(), time.process_time())


def cost(work: Callable[[], object]) -> Cost:
    """Run a piece of work and return what it took."""
    before = now()
    work()
    return now() - before


def median(costs: list[Cost]) -> Cost:
    """Return the median of each figure."""
    return Cost(statistics.median(c.wall_s for c in costs), statistics.median(c.cpu_s for c in costs))


def in_new_process(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what a function returns in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *args, **kwargs).result()


# The processor is imported inside the functions that run in a process of their own: its import is measured.


def cold_start(model_name: str, precision: Precision, started_s: float) -> dict[str, Cost]:
    """Return what each step took from the start of this process to a detector that is ready."""
    marks = {"": Cost(started_s, 0), "python": now()}
    import processor  # noqa: F401, PLC0415 - sets what TensorFlow reads
    import tensorflow as tf  # noqa: PLC0415  # isort: skip

    marks["import TensorFlow"] = now()
    importlib.import_module("processor.detect")
    from processor.detection.detector import Detector  # noqa: PLC0415
    from processor.detection.grid import HEMISPHERE_SHAPE  # noqa: PLC0415
    from processor.detection.weights import read_weights  # noqa: PLC0415
    from processor.models import resolve_model  # noqa: PLC0415

    marks["import the rest"] = now()
    detector = Detector(read_weights(resolve_model(model_name, Path("models")).path), precision)
    marks["read weights"] = now()
    hemisphere = tf.TensorSpec((1, *HEMISPHERE_SHAPE, 1), tf.float32)
    detector._network._graph.get_concrete_function(hemisphere, hemisphere)  # noqa: SLF001 - a step of warm()
    marks["trace the graph"] = now()
    detector.warm()
    marks["first run"] = now()
    ends = list(marks.values())
    steps = {name: end - start for name, start, end in zip(list(marks)[1:], ends, ends[1:], strict=False)}
    return steps | {"all": ends[-1] - ends[0]}


def warm_scans(
    model_name: str, precisions: Sequence[Precision], scan: Path, repeats: int
) -> tuple[dict[Precision, dict[str, Cost]], float, int]:
    """Return the medians of every stage, the rate in flop per CPU-second, and the network's filters."""
    import processor  # noqa: F401, PLC0415 - sets what TensorFlow reads
    import tensorflow as tf  # noqa: PLC0415  # isort: skip

    from processor.detection.weights import read_weights  # noqa: PLC0415
    from processor.models import resolve_model  # noqa: PLC0415

    matrix = tf.random.normal((MATRIX, MATRIX))
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)))
    product()
    rounds: list[dict[Precision, dict[str, Cost]]] = []
    products: list[Cost] = []
    with tempfile.TemporaryDirectory() as folder:
        stages = {p: stages_of(model_name, p, scan, Path(folder)) for p in precisions}
        for _ in range(repeats):
            rounds.append({p: {name: cost(work) for name, work in stages[p].items()} for p in precisions})
            products.append(cost(product))
    medians = {p: {name: median([one[p][name] for one in rounds]) for name in stages[p]} for p in precisions}
    rate = 2 * MATRIX**3 / median(products).cpu_s
    weights = read_weights(resolve_model(model_name, Path("models")).path)
    return medians, rate, len(weights.branch[0].convolutions[0].bias)


def stages_of(
    model_name: str, precision: Precision, scan: Path, out: Path
) -> dict[str, Callable[[], object]]:
    """Return every stage of a warm scan, ready to be run again and again."""
    from processor.detect import detect_scan, load_detector  # noqa: PLC0415
    from processor.detection.grid import split_hemispheres  # noqa: PLC0415
    from processor.detection.preprocessing import normalise  # noqa: PLC0415
    from processor.detection.saliency import saliency_map  # noqa: PLC0415
    from processor.models import resolve_model  # noqa: PLC0415
    from processor.outputs import write_outputs  # noqa: PLC0415
    from processor.placement import place_on_grid  # noqa: PLC0415
    from processor.volumes import read_volume  # noqa: PLC0415

    model = resolve_model(model_name, Path("models"))
    detector = load_detector(model, precision)
    stored = read_volume(scan)
    volume = place_on_grid(stored)
    normalised = normalise(volume.hu)
    halves = split_hemispheres(normalised)
    output = detector._network(*halves)  # noqa: SLF001 - measured apart from what surrounds it
    saliency = saliency_map(output.left_map, output.right_map, normalised)
    report = detect_scan(scan, out, detector, model=model)
    return {
        "one scan, file to files": lambda: detect_scan(scan, out, detector, model=model),
        "  reading": lambda: read_volume(scan),
        "  alignment": lambda: place_on_grid(stored),
        "  preprocessing": lambda: normalise(volume.hu),
        "  network": lambda: detector._network(*halves),  # noqa: SLF001 - the same
        "  saliency map": lambda: saliency_map(output.left_map, output.right_map, normalised),
        "  picture and files": lambda: write_outputs(out, volume, saliency, model, report),
    }


def memory(model_name: str, precision: Precision, scan: Path, scans: int) -> dict[str, float]:
    """Return this process's memory before, and after so many scans, and the peak of all, MiB."""
    from processor.detect import detect_scan, load_detector  # noqa: PLC0415
    from processor.models import resolve_model  # noqa: PLC0415

    def status_mib(field: str) -> float:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024

    figures = {"imported": status_mib("VmRSS")}
    model = resolve_model(model_name, Path("models"))
    detector = load_detector(model, precision)
    figures["ready"] = status_mib("VmRSS")
    held, peaks = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(scans):
            detect_scan(scan, Path(folder), detector, model=model)
            held.append(status_mib("VmRSS"))
            peaks.append(status_mib("VmHWM"))
    settled = min(SETTLED_SCANS, scans) - 1
    return figures | {
        "after the first scan": held[0],
        "after the last scan": held[-1],
        "peak": peaks[-1],
        f"growth of the peak after scan {settled + 1}": peaks[-1] - peaks[settled],
    }


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


def machine() -> dict[str, Any]:
    """Return what the figures depend on beside the code."""
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines()
    names = [line for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
    }


def measure(model: str, scan: Path, repeats: int, memory_scans: int) -> dict[str, Any]:
    """Return every figure, of each precision that this CPU and the model have."""
    from processor.models import resolve_model  # noqa: PLC0415
    from processor.precision import usable  # noqa: PLC0415

    result: dict[str, Any] = {"model": model, "repeats": repeats, "machine": machine()}
    result["no_fast"] = usable("fast", resolve_model(model, Path("models"))).reason
    precisions: list[Precision] = ["float32"] if result["no_fast"] else ["float32", "fast"]
    starts = {p: [in_new_process(cold_start, model, p, time.time()) for _ in range(3)] for p in precisions}
    warm, rate, filters = in_new_process(warm_scans, model, precisions, scan, repeats)
    flop = operations(filters)
    result["network_flop"] = flop
    result["float32_flop_per_cpu_s"] = rate
    result["floor_cpu_s"] = flop / rate
    result["memory_scans"] = memory_scans
    for p in precisions:
        cold = {step: median([start[step] for start in starts[p]]) for step in starts[p][0]}
        result[p] = {
            "cold_start": {step: asdict(figures) for step, figures in cold.items()},
            "warm": {stage.strip(): asdict(figures) for stage, figures in warm[p].items()},
            "network_over_floor": warm[p]["  network"].cpu_s / (flop / rate),
            "memory_mib": in_new_process(memory, model, p, scan, memory_scans),
        }
    return result


def print_table(result: dict[str, Any]) -> None:
    """Print the figures for people."""
    parts = {precision: result[precision] for precision in ("float32", "fast") if precision in result}
    print(f"{result['model']} on {result['machine']}")
    if result["no_fast"]:
        print(f"Nothing in the fast precision. {result['no_fast']}")
    print(f"\n{'':<36}" + "".join(f"{precision:>20}" for precision in parts))
    print(f"{'':<36}" + f"{'wall s':>11}{'CPU s':>9}" * len(parts))
    for title in ("cold start", "warm"):
        for name in parts["float32"][title.replace(" ", "_")]:
            figures = [part[title.replace(" ", "_")][name] for part in parts.values()]
            print(
                f"{f'{title}: {name}':<36}"
                + "".join(f"{f['wall_s']:11.2f}{f['cpu_s']:9.2f}" for f in figures)
            )
    rate = f"{result['float32_flop_per_cpu_s'] / 1e9:.0f} Gflop per CPU-second of float32"
    print(f"{'floor of the network':<36}{'':11}{result['floor_cpu_s']:9.2f}")
    print(f"  {result['network_flop']:.3g} flop at {rate}")
    print(
        f"{'network over that floor':<36}"
        + "".join(f"{part['network_over_floor']:20.2f}" for part in parts.values())
    )
    heading = f"memory over {result['memory_scans']} scans, MiB"
    print(f"\n{heading:<36}" + "".join(f"{precision:>20}" for precision in parts))
    for name in parts["float32"]["memory_mib"]:
        print(f"{name:<36}" + "".join(f"{part['memory_mib'][name]:20.0f}" for part in parts.values()))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="demo", help="a name or a path")
    parser.add_argument("--scan", type=Path, help="a volume on the grid; a synthetic one by default")
    parser.add_argument("--repeats", type=int, default=7, help="warm scans, of which medians are taken")
    parser.add_argument("--memory-scans", type=int, default=50, help="scans over which memory is watched")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scan = options.scan
        if scan is None:
            from processor.synthetic.samples import write_samples  # noqa: PLC0415 - seconds that few need

            scan = write_samples(Path(folder), count=1)[0]
        result = measure(options.model, scan, options.repeats, options.memory_scans)
    print_table(result)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "detection.json").write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
