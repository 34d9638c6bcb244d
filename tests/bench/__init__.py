"""Benchmarks: commands that print tables beside their peers; pytest runs none of them."""
