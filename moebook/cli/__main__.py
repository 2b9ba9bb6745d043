"""`python -m moebook.cli`, as `python -m moebook`."""

from moebook.cli import main

main()
