"""The embedded supervisor: runs process-compose.yaml where the program process-compose cannot be had.

`spec` reads and checks the file (for both supervisors), `supervisor` runs it, `client` talks to either.
"""
