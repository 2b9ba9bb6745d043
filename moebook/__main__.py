"""`python -m moebook`: the `moebook` command."""

from moebook.cli import main

main()
