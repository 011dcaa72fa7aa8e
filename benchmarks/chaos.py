"""Kills the services of a whole installation a thousand times and looks whether anything is lost or doubled.

    python -m benchmarks.chaos                    the long run; half an hour and more
    python -m benchmarks.chaos --kills 60         a short one

Run it from the root of the repository, as root where the disk is to be filled too. Prints a table and writes
JSON into benchmarks/results/; the engine is tests/support/chaos/, which the test suite runs for minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from corestream.up.redis_server import find_server
from tests.support.chaos.campaign import Campaign, Outcome, Recovery, conduct, recoveries
from tests.support.chaos.faults import Blow
from tests.support.chaos.ledger import Ledger
from tests.support.chaos.system import Setting

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Phase:
    """One installation and what it has to bear.

    Attributes:
        name: In the table.
        setting: Of the installation.
        share: Of the kills.
        often: See `Campaign`.
    """

    name: str
    setting: Setting
    share: float
    often: int


PHASES = (
    Phase(
        "as shipped: lease 15 s, appendfsync everysec, sweep once a minute",
        Setting(lease_ms=15_000, sweep_every_s=None, longest_s=6.0),
        share=0.04,
        often=1,
    ),
    Phase(
        "lease 2 s, appendfsync everysec",
        Setting(appendfsync="everysec", sweep_every_s=10.0, shortest_s=0.5, longest_s=3.0),
        share=0.48,
        often=4,
    ),
    Phase(
        "lease 2 s, appendfsync always",
        Setting(appendfsync="always", sweep_every_s=10.0, shortest_s=0.5, longest_s=3.0),
        share=0.48,
        often=4,
    ),
)


def main() -> None:
    """Run all phases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="SIGKILLs in all (default 1000)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of faults (default 1)")
    parser.add_argument("--minutes", type=float, default=60, help="most that a phase takes (default 60)")
    parser.add_argument("--keep", type=Path, help="an empty folder for the logs of all services")
    parser.add_argument(
        "--show", type=Path, nargs="+", help="run nothing, print the tables of such JSON files together"
    )
    arguments = parser.parse_args()
    if arguments.show:
        _show([json.loads(path.read_text()) for path in arguments.show])
        return
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        folder = arguments.keep or Path(temporary)
        asyncio.run(_run(arguments, folder))
    document = json.loads((RESULTS / "chaos.json").read_text())
    _show([document])
    if any(phase["ledger"]["violations"] for phase in document["phases"].values()):
        sys.exit(1)


async def _run(arguments: argparse.Namespace, folder: Path) -> None:
    """Run all phases at once, since each spends most of its time waiting; write what came of each."""
    outcomes: dict[str, Outcome] = {}

    async def run(number: int, phase: Phase) -> None:
        home = folder / str(number)
        home.mkdir(parents=True)
        campaign = Campaign(
            arguments.seed + number,
            round(arguments.kills * phase.share),
            phase.setting,
            most_s=arguments.minutes * 60,
            often=phase.often,
        )
        outcomes[phase.name] = await conduct(campaign, home, report=lambda text: _say(f"{number} {text}"))
        for violation in outcomes[phase.name].ledger.violations:
            _say(f"{number} VIOLATION: {violation}")
        _write({phase.name: outcomes[phase.name] for phase in PHASES if phase.name in outcomes})

    await asyncio.gather(*(run(number, phase) for number, phase in enumerate(PHASES)))


def _say(line: str) -> None:
    print(line, flush=True)


def _write(outcomes: dict[str, Outcome]) -> None:
    """Write what is known so far."""
    RESULTS.mkdir(exist_ok=True)
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"python -m benchmarks.chaos {shlex.join(sys.argv[1:])}".strip(),
        "machine": {
            "cpus": os.cpu_count(),
            "load_average": os.getloadavg(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "redis": subprocess.check_output((find_server(), "--version"), text=True).strip(),
        },
        "phases": {
            name: outcome.as_json() | {"table": [asdict(line) for line in recoveries(outcome.blows)]}
            for name, outcome in outcomes.items()
        },
    }
    (RESULTS / "chaos.json").write_text(json.dumps(document, indent=1))


def _show(documents: list[dict[str, Any]]) -> None:
    """Print what runs came to as Markdown: the books, and the seconds to recovery."""
    for document in documents:
        print(f"\n{document['command']}, ended {document['at']}, {document['machine']}")
    names = list(documents[0]["phases"])
    runs = [[document["phases"][name] for document in documents] for name in names]
    blows = [[Blow(**blow) for run in phase for blow in run["blows"]] for phase in runs]
    print("\n" + _row("", *names))
    print(_row(*["---"] * (len(names) + 1)))
    print(_row("SIGKILLs", *(sum(blow.kills for blow in struck) for struck in blows)))
    print(_row("minutes", *(f"{sum(run['seconds'] for run in phase) / 60:.0f}" for phase in runs)))
    for name in (field.name for field in fields(Ledger)):
        print(_row(name, *(sum(_number(run["ledger"][name]) for run in phase) for phase in runs)))
    print("\n" + _row("fault", *(f"{name}: times | p50 s | max s" for name in names)))
    print(_row(*["---"] * (3 * len(names) + 1)))
    tables = [{line.fault: line for line in recoveries(struck)} for struck in blows]
    for fault in sorted({fault for table in tables for fault in table}):
        print(_row(fault, *(_cells(table.get(fault)) for table in tables)))


def _number(value: int | list[str]) -> int:
    return value if isinstance(value, int) else len(value)


def _cells(line: Recovery | None) -> str:
    if line is None:
        return "0 | - | -"
    p50, longest = ("-" if s is None else f"{s:.2f}" for s in (line.p50_s, line.max_s))
    return f"{line.times} | {p50} | {longest}"


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
