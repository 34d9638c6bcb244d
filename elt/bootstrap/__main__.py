"""Prepare this clone: `python -m elt.bootstrap`."""

from elt.bootstrap.prepare import leave, main

if __name__ == "__main__":
    leave(main())
