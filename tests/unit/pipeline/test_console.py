"""What is printed of stages that run side by side, with and without a terminal."""

import io
import re
import sys

import pytest

from scripts.pipeline.console import Console, harmless


@pytest.fixture
def shown(tmp_path, monkeypatch, capfd):
    """Show two stages, of which one fails; return what came to the terminal and what to the log."""

    def show(terminal=""):
        monkeypatch.setenv("TERMINAL", terminal)
        with Console(["a", "train"], tmp_path / "log") as console:
            for stage in ("a", "train"):
                console.begins(stage)
            console.goes_on(0, 2)
            console.line("a", "[bold] 50 %")
            console.line("train", "1")
            console.ends("train", "ran")
            console.goes_on(1, 4, lambda: "about 5 s left")
            console.ends("a", "failed")
            console.line("train", "unheard of")
            console.repeat("a", ["[bold] 50 %"])
            console.note("not run: z")
        return capfd.readouterr().out, (tmp_path / "log").read_text()

    return show


PLAIN = re.compile(
    r"a     \| \[bold\] 50 %\ntrain \| 1\ntrain ran \(\d+\.\d s\)\na     failed \(\d+\.\d s\)\ntrain \| unheard of\n"
    r"a     its last lines:\na     \| \[bold\] 50 %\nnot run: z\n"
)


def test_without_a_terminal_lines_are_plain(shown):
    """Each line has its stage's name in front; the log holds the same."""
    screen, log = shown()
    assert PLAIN.fullmatch(screen) and screen == log


def test_on_a_terminal_one_line_says_what_goes_on(shown):
    """It has the time, how many are done, run and wait; it is erased before each other line and at the end, and not
    logged."""
    screen, log = shown(terminal="60")
    assert PLAIN.fullmatch(log)
    text = re.sub(r"\x1b\[[\d;]*m", "", screen)
    assert re.search(r"\d+ s: 0 done, 2 running \(a \d+ s, train \d+ s\)", text)
    assert re.search(r"\r\x1b\[2K\d+ s, about 5 s left: 1 done, 1 running \(a \d+ s\), 2 waiting", text)
    seen = re.sub(r"[^\n]*\x1b\[2K", "", re.sub(r"\x1b\[\?25[lh]", "", text))  # what is left when all is erased
    assert PLAIN.match(seen)


def test_what_moves_the_cursor_is_not_lost(shown, monkeypatch):
    """If sys.stdout is replaced (DVC does so), the bottom line still reaches the terminal."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    screen, _ = shown(terminal="60")
    assert "\r\x1b[2K" in screen


def test_the_line_at_the_bottom_is_one_line(shown):
    """On a terminal that is too narrow it is cut off and not wrapped."""
    screen, _ = shown(terminal="24")
    assert "0 s, about 5 s left: 1 \u2026" in re.sub(r"\x1b\[[\d;]*m", "", screen)


def test_what_was_printed_last_is_not_repeated(tmp_path, capfd):
    """The last lines of a failed stage are repeated only if another stage printed after it."""
    with Console(["a"], tmp_path / "log") as console:
        console.begins("a")
        console.line("a", "oh")
        console.ends("a", "failed")
        console.repeat("a", ["oh"])
    assert capfd.readouterr().out.count("oh") == 1


# --- what a stage prints is a stranger's

RED = "\x1b[31mred\x1b[0m"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain, with a \t tab and ümläuts", "plain, with a \t tab and ümläuts"),
        (RED, "red"),
        ("\x1b[2J\x1b[H\x1b[?25lgone", "gone"),
        ("\x1b[38;2;255;0;0mcolour", "colour"),
        ("\x1b[38:2::255:0:0mcolour", "colour"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]8;;https://example.com\x1b\\link\x1b]8;;\x1b\\", "link"),
        (" 10 %\r 50 %\r100 %", "100 %"),
        ("done\r", "done"),
        ("\x1b", "?"),
        ("\x1bcreset", "?creset"),
        ("\x1b(0line", "?(0line"),
        ("\x9b31mred", "?31mred"),
        ("a\x08b\x07c\x00d", "a?b?c?d"),
        ("\x7f", "?"),
        ("pay \u202eyam\u202c", "pay ?yam?"),
        ("\u2066x\u2069 a\u200eb\u200fc\u061cd", "?x? a?b?c?d"),
        ("a\x0bb\x0cc", "a?b?c"),
        ("a\u2028b\u2029c\x85d", "a?b?c?d"),
        ("\ud800", "?"),
    ],
)
def test_a_line_can_move_nothing_on_a_terminal(line, shown):
    """Colours and links lose their codes, a progress bar shows its last state, and what else is no text becomes ?."""
    assert harmless(line) == shown


@pytest.mark.parametrize("terminal", ["", "60"])
def test_a_stage_cannot_draw_on_the_screen(tmp_path, monkeypatch, capfd, terminal):
    """Neither on a terminal nor in the log is there an escape sequence, or a line, that a stage has made."""
    monkeypatch.setenv("TERMINAL", terminal)
    with Console(["a"], tmp_path / "log") as console:
        console.begins("a")
        console.line("a", "\x1b[31m\x1b]0;title\x07 [red]x[/red] :warning: \rerror: fake\u2028b | forged")
    expected = "a | error: fake?b | forged\n"
    assert (tmp_path / "log").read_text() == expected
    printed = capfd.readouterr().out
    assert expected in printed and "31m" not in printed and "title" not in printed


def test_a_repeated_line_is_harmless_as_well(tmp_path, capfd):
    """The last lines of a failed stage are cleaned when they are repeated, too."""
    with Console(["a", "b"], tmp_path / "log") as console:
        for stage in "ab":
            console.begins(stage)
            console.ends(stage, "failed")
        console.repeat("a", [RED])
    assert "a | red\n" in capfd.readouterr().out
