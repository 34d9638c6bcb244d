"""Serve app.py as the stack does, and refuse foreign host names."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from elt.services.allowed_hosts import AllowedHosts

app = st.App(Path(__file__).with_name("app.py"), middleware=[Middleware(AllowedHosts)])
