#!/usr/bin/env python3
"""Print the part of requirements.lock that some of the project's extras need, hashes included.

    python infra/locked_requirements.py ingest,viewer > requirements.txt
    pip install --require-hashes --no-deps -r requirements.txt

pip takes hashes only where every requirement is pinned, so the lock cannot serve as constraints with hashes.
pip itself works out which packages the extras need (a dry run, constrained to the versions of the lock);
their blocks of the lock are printed. Runs in the build of an image: standard library and pip alone.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"^(?P<name>[\w.-]+)(?P<pin>==[^\\\n]+).*\n(?: .*\n)*", re.MULTILINE)
"""A package of the lock: its pin, then a line for each hash."""


def normalised(name: str) -> str:
    """Return a package's name as it is compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(extras: Iterable[str]) -> list[str]:
    """Return what the project and some of its extras ask for.

    Raises:
        SystemExit: There is no such extra.
    """
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    optional: dict[str, list[str]] = project["optional-dependencies"]
    if unknown := sorted(set(extras) - set(optional)):
        raise SystemExit(
            f"Expected extras out of {', '.join(sorted(optional))} (pyproject.toml), "
            f"received {', '.join(unknown)}."
        )
    return [*project["dependencies"], *(line for extra in extras for line in optional[extra])]


def subset(lock: str, names: set[str]) -> str:
    """Return the blocks of a lock whose package is one of `names` (normalised).

    Raises:
        SystemExit: A name is not in the lock.
    """
    blocks = [block for block in _BLOCK.finditer(lock) if normalised(block["name"]) in names]
    if missing := sorted(names - {normalised(block["name"]) for block in blocks}):
        raise SystemExit(f"requirements.lock lacks {', '.join(missing)}: pin the dependencies anew.")
    return "".join(block[0] for block in blocks)


def resolved(wanted: list[str], lock: str) -> set[str]:
    """Return the names of all packages that `wanted` leads to at the versions of the lock."""
    pins = "".join(f"{block['name']}{block['pin'].rstrip()}\n" for block in _BLOCK.finditer(lock))
    with tempfile.TemporaryDirectory() as folder:
        constraints, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
        constraints.write_text(pins)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--constraint", str(constraints), "--report", str(report), *wanted]
        subprocess.run(command, check=True, stdout=sys.stderr)  # noqa: S603 - pip, with our own requirements
        return {normalised(item["metadata"]["name"]) for item in json.loads(report.read_text())["install"]}


def main() -> None:
    """Print the requirements of the extras that the only argument names, separated by commas."""
    lock = (_ROOT / "requirements.lock").read_text()
    wanted = requirements(sys.argv[1].split(","))
    sys.stdout.write(subset(lock, resolved(wanted, lock)))


if __name__ == "__main__":
    main()
