"""Show the start of the stack: a live line per process on a terminal, a line per change elsewhere."""

from __future__ import annotations

import sys
import time
import typing as t

FINISHED = {"ready", "done"}
"""States of a process that `up` does not wait for any more."""


class Change(t.NamedTuple):
    """Describe that a process came into a state."""

    process: str
    state: str
    moment: float
    """Seconds, as time.monotonic() counts them."""


class Progress:
    """Print a live line per process on a terminal, a plain line per change elsewhere."""

    def __init__(self, on_change: t.Callable[[Change], None]) -> None:
        self.on_change = on_change
        self.began = time.monotonic()
        self.shown: dict[str, tuple[str, float]] = {}
        self.live: t.Any = None

    def __enter__(self) -> t.Self:
        """Begin to draw, where there is a terminal."""
        if sys.stdout.isatty():
            from rich.live import Live  # noqa: PLC0415 - 50 ms, and only a terminal needs it

            self.live = Live(refresh_per_second=8)
            self.live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave what was drawn last."""
        if self.live:
            self.live.__exit__(*error)

    def show(self, states: dict[str, str]) -> None:
        """Show the states as they are now."""
        now = time.monotonic() - self.began
        for name, state in states.items():
            if self.shown.get(name, ("", 0.0))[0] != state:
                self.shown[name] = state, now
                self.on_change(Change(name, state, self.began + now))
                if not self.live and state not in {"waiting", "starting"}:
                    print(_line(name, state, now), flush=True)
        if self.live:
            lines = [
                _line(name, state, since if state in FINISHED else now) for name, (state, since) in self.shown.items()
            ]
            self.live.update("\n".join(lines))


def _line(name: str, state: str, seconds: float) -> str:
    return f"  {name:<24} {state:<10} {seconds:6.1f} s"
