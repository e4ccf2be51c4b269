"""The entry point: catches Ctrl-C and SIGTERM before anything that takes time is imported."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from waveedge import interrupts

__all__ = ["main"]

_INTERRUPTED = {128 + number for number in interrupts.SIGNALS}


def main() -> None:
    """Run the command line; it reports interrupts itself once it is imported."""
    interrupts.install()
    try:
        from waveedge.cli import main as run

        run()
    except BaseException as error:
        number = interrupts.arrived()
        if isinstance(error, SystemExit):
            if error.code not in _INTERRUPTED:
                raise
            status = int(error.code)
        elif number is not None:  # an import that is interrupted may fail with an error of its own
            with suppress(OSError):
                os.write(2, b"error: interrupted; nothing was written\n")
            status = 128 + number
        else:
            raise
        # Not sys.exit: where C code was interrupted, Python would end with SIGINT all the same.
        os._exit(status)
    finally:
        for number in interrupts.SIGNALS:  # all is done; what is left is the interpreter's end
            signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main()
