"""Implement the command `elt`: one package per layer, one small module per capability."""

import os

os.umask(os.umask(0o022) | 0o022)  # what others may write, such as modules of Python, runs as this user
