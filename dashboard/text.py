"""Escape texts of the data and its models, so that Streamlit shows them unchanged.

Streamlit takes labels and messages for Markdown, in which a column's name could load an image from a foreign server.
"""

from __future__ import annotations

import re


def plain(text: str) -> str:
    """Escape all that Markdown, HTML or Streamlit (colours, icons, formulas) would give a meaning to."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)
