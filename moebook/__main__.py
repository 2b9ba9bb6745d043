"""`moebook` and `python -m moebook`: the command, which Ctrl-C ends without a traceback, also while
it is imported."""

import sys


def main() -> None:
    try:
        from moebook.cli import main as command

        command()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
