"""``infamous`` and ``python -m infamous``: Ctrl-C ends the process at once, then the command line is loaded.

Commands that have something to finish install handlers of their own. The others only look, or leave it to
the server to roll back; and nothing but the kernel can end a call to a server that hangs.
"""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command; ends the process with its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from infamous import cli  # noqa: PLC0415  # half a second in which Ctrl-C would be a traceback

    cli.main()


if __name__ == "__main__":
    main()
