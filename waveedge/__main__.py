"""The entry point: catches Ctrl-C and SIGTERM before anything that takes time is imported."""

from __future__ import annotations

import signal
import sys

from waveedge import interrupts

__all__ = ["main"]


def main() -> None:
    """Run the command line; it reports interrupts itself once it is imported."""
    interrupts.install()
    try:
        from waveedge.cli import main as run

        run()
    except BaseException as error:
        number = interrupts.arrived()
        # An import that is interrupted may fail with an error of its own.
        if number is None or isinstance(error, SystemExit):
            raise
        sys.stderr.write("error: interrupted; nothing was written\n")
        sys.exit(128 + number)
    finally:
        for number in interrupts.SIGNALS:  # all is done; what is left is the interpreter's end
            signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main()
