"""Maintain a clone: doctor, backup and restore, trimming, the bill of materials."""
