"""Prove that the platform works, and write a report."""
