"""Prepare a clone on the system's Python, standard library only, before the environment exists."""
