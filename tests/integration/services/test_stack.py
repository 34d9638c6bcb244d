"""`elt logs` prints no control sequence of a log."""

from __future__ import annotations

from workspace import apart, run

from elt.supervisor import control


def test_a_name_in_a_log_does_not_command_the_terminal(state):
    log = state / "logs" / "one.log"
    log.parent.mkdir(parents=True)
    log.write_bytes("\x1b[1mbold\x1b[0m\tä: \x1b]0;title\x07\x1b[2J\x9b1J\rover\r\nnext\n".encode())
    spelt = "\x1b[1mbold\x1b[0m\tä: \\x1b]0;title\\x07\\x1b[2J\\x9b1J\\rover"
    assert "".join(control.last_lines(log, 9)).replace("\r\n", "\n").splitlines() == [spelt, "next"]
    done = run("elt", "logs", "one", env=apart(state))
    assert done.stdout.splitlines() == [spelt, "next"], done.stderr
