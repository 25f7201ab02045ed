"""What is seen of stages that run side by side, with and without a terminal."""

import io
import re
import sys

import pytest

from scripts.pipeline.console import Screen


@pytest.fixture
def shown(tmp_path, monkeypatch, capfd):
    """Shows two stages, of which one fails, and gives what came to the screen and what to the log."""

    def show(terminal=""):
        monkeypatch.setenv("TERMINAL", terminal)
        with Screen(["a", "train"], tmp_path / "log") as screen:
            for stage in ("a", "train"):
                screen.begins(stage)
            screen.goes_on(0, 2)
            screen.line("a", "[bold] 50 %")
            screen.line("train", "1")
            screen.ends("train", "ran")
            screen.goes_on(1, 2)
            screen.ends("a", "failed")
            screen.line("train", "unheard of")
            screen.repeat("a", ["[bold] 50 %"])
            screen.note("not run: z")
        return capfd.readouterr().out, (tmp_path / "log").read_text()

    return show


PLAIN = re.compile(
    r"a     \| \[bold\] 50 %\ntrain \| 1\ntrain ran \(0\.\d s\)\na     failed \(0\.\d s\)\ntrain \| unheard of\n"
    r"a     said at last:\na     \| \[bold\] 50 %\nnot run: z\n"
)


def test_without_a_terminal_lines_are_plain(shown):
    """Each line bears its stage's name, as it came; the log holds the same."""
    screen, log = shown()
    assert PLAIN.fullmatch(screen) and screen == log


def test_on_a_terminal_one_line_says_what_goes_on(shown):
    """What goes on is written at the bottom and erased before each other line, and at the end; none of it is logged."""
    screen, log = shown(terminal="60")
    assert PLAIN.fullmatch(log)
    text = re.sub(r"\x1b\[[\d;]*m", "", screen)
    assert "\r\x1b[2K1 of 2 stages ended; running: a 0 s" in text
    seen = re.sub(r"[^\n]*\x1b\[2K", "", re.sub(r"\x1b\[\?25[lh]", "", text))  # what is left when all is erased
    assert PLAIN.match(seen)


def test_what_moves_the_cursor_is_not_lost(shown, monkeypatch):
    """Whatever somebody puts in the place of standard output (DVC does), the bottom line reaches the terminal."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    screen, _ = shown(terminal="60")
    assert "\r\x1b[2K" in screen


def test_the_line_at_the_bottom_is_one_line(shown):
    """On a terminal that is too narrow it is cut off, and not wrapped."""
    screen, _ = shown(terminal="24")
    assert "1 of 2 stages ended; ru\u2026" in re.sub(r"\x1b\[[\d;]*m", "", screen)


def test_what_is_last_on_the_screen_is_not_repeated(tmp_path, capfd):
    """The last words of a failed stage come once more only if others spoke after it."""
    with Screen(["a"], tmp_path / "log") as screen:
        screen.begins("a")
        screen.line("a", "oh")
        screen.ends("a", "failed")
        screen.repeat("a", ["oh"])
    assert capfd.readouterr().out.count("oh") == 1
