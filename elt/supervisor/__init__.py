"""Supervise the processes of a process-compose.yaml, by process-compose or by a supervisor of our own.

`spec` reads and checks the file, `embedded` runs it where the program process-compose is missing, `client` talks to
either, `control` starts and stops them, and `guard` stands before each process.
"""
