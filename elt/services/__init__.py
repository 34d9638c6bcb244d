"""Start, probe and connect to each server of the stack."""
