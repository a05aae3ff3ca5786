"""The kernel: the process in which a notebook runs, and which does not outlive whoever started it.

Jupyter's own looks once a second whether its parent is there, and not at all while a library keeps Python
busy. Where the operating system can do it, it ends the kernel together with whoever started it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

from ipykernel import kernelapp

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Be a kernel, as ``python -m ipykernel_launcher`` is."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != int(os.environ["JPY_PARENT_PID"]):  # it ended before it could be watched
        sys.exit(1)
    # What a notebook prints is on no page: it is not collected, of which there may be any amount.
    kernelapp.launch_new_instance(outstream_class=None)


if __name__ == "__main__":
    main()
