"""`python -m elt.bootstrap`: prepare this clone."""

from elt.bootstrap.prepare import leave, main

if __name__ == "__main__":
    leave(main())
