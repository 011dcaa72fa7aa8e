"""The processes of this machine, from Linux's /proc."""

from __future__ import annotations

from pathlib import Path


def processes() -> dict[int, int]:
    """Return the parent of every living process; zombies are dead."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            parents[int(entry.parent.name)] = int(parent)
    return parents


def children(pid: int) -> set[int]:
    """Return the processes that a process has started."""
    return {child for child, parent in processes().items() if parent == pid}


def descendants(pid: int) -> set[int]:
    """Return a process's children, theirs, and so on."""
    parents = processes()
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found
