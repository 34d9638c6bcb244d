"""Tests on the real stack."""
