"""`moebook` and `python -m moebook`: the command, which Ctrl-C ends without a traceback, also while
it is imported."""

import os
import sys


def main() -> None:
    os.environ.pop("MPLBACKEND", None)  # a command opens no window, and a kernel has its own
    try:
        from moebook.cli import main as command

        command()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
