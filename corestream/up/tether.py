"""Run a command that ends when its parent does: `python -m corestream.up.tether PARENT_PID COMMAND…`.

`corestream up` ends its services itself; only when it is killed with SIGKILL it cannot. The kernel can: a
process that asks for it (PR_SET_PDEATHSIG, see prctl(2)) gets a signal when its parent dies, and the wish
survives exec. It has to be asked for in the child. `preexec_fn` would do so between fork and exec, where
Python code may deadlock on a lock that another thread held; a process of its own that asks, and then
becomes the command, cannot. Only Linux has this; elsewhere the command is run as it is.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def tethered(command: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command line that runs a command as long as the present process lives, and no longer."""
    return (sys.executable, "-m", "corestream.up.tether", str(os.getpid()), *command)


def main(parent_pid: int, command: list[str]) -> None:
    """Tie this process to its parent, and become the command."""
    if sys.platform == "linux":
        # SIGKILL: a service that drains would wait for a Redis that was ended with it.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:  # it died before the wish was heard
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - becoming the command is the purpose


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
