"""The dashboard: a frame, and pages on what was published."""
