"""What a stage prints: it reaches a terminal without power over it, in bounded pieces, and decides nothing."""

import os
import pty
import re
import signal
import subprocess
import threading
import time

import pytest

from tests.border.conftest import Attacked
from tests.conftest import wait_until

pytestmark = [pytest.mark.docker]

POWER = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What moves a cursor, sets a title, or turns the direction of a text (not the line breaks)."""
PRINTED = {
    "a title": "\\x1b]0;t\\x07",
    "a title without an end": "\\x1b]0;t",
    "a cursor": "\\x1b[2J\\x1b[H",
    "a colour": "\\x1b[31mred",
    "a link": "\\x1b]8;;http://example.com\\x07text\\x1b]8;;\\x07",
    "the clipboard": "\\x1b]52;c;cm0gLXJm\\x07",
    "an answer": "\\x1b[6n\\x1b[c\\x1bP+q544e\\x1b\\\\",
    "8 bits": "\\x9b31m\\x9d0;t\\x9c",
    "a bell": "\\a\\a\\a",
    "backspaces": "error: \\b\\b\\b\\b\\b\\b\\b all is well",
    "a carriage return": "fine\\rbad",
    "an empty byte": "a\\0b",
    "text that turns": "\\u202ecod.exe\\u202c \\u2066x\\u2069",
    "line breaks of its own": "a\\u2028b\\u2029c\\x0bd\\x0ce\\x85f",
}


@pytest.mark.deep
@pytest.mark.parametrize("said", PRINTED.values(), ids=list(PRINTED))
def test_on_a_pipe(attacked: Attacked, said: str, request: pytest.FixtureRequest) -> None:
    """A run whose output is piped ends well, and nothing in it has power over a terminal."""
    check_on_a_pipe(attacked, said, request.node.name)


def test_on_a_pipe_once(attacked: Attacked) -> None:
    """As above: a title, which ended a piped run once."""
    check_on_a_pipe(attacked, PRINTED["a title"], "once")


def check_on_a_pipe(attacked: Attacked, said: str, name: str) -> None:
    attacked.does(f"print('begin {said} end'); print('{said}', file=sys.stderr)  # {name}")
    done = attacked.run()
    assert done.returncode == 0, done.stdout
    assert "begin" in done.stdout or "end" in done.stdout
    assert not POWER.search(done.stdout), ascii(done.stdout)
    log = sorted((attacked.clone.path / ".local" / "logs").glob("run*"))
    assert all(not POWER.search(path.read_text().replace("\r", "")) for path in log if path.is_file())


@pytest.mark.deep
@pytest.mark.parametrize("said", [PRINTED["a title"], PRINTED["the clipboard"], PRINTED["8 bits"]])
def test_on_a_terminal(attacked: Attacked, said: str) -> None:
    """On a terminal a run moves its own line, and nothing of the stage's reaches it."""
    attacked.does(f"print('begin {said} end')  # {time.time()}")
    ours, theirs = pty.openpty()
    environ = {key: value for key, value in os.environ.items() if key != "PWD"} | {"TERM": "xterm"}
    with subprocess.Popen(
        ["make", "run"], cwd=attacked.clone.path, env=environ, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        seen = b""
        try:
            while piece := os.read(ours, 1 << 16):
                seen += piece
        except OSError:  # closed
            pass
    assert process.returncode == 0, seen.decode(errors="replace")
    (line,) = [line for line in seen.split(b"\n") if b"| begin" in line][:1]
    assert b"\x1b]" not in line.split(b"| begin")[1] and b"\x9d" not in line


def test_words_decide_nothing(attacked: Attacked) -> None:
    """A stage that fails and says "connection reset" is run once: only Docker's own exit code is tried again."""
    attacked.does("print('connection reset by peer: i/o timeout'); print('RUN'); sys.exit(1)")
    done = attacked.run()
    assert done.returncode == 2 and done.stdout.count("| RUN") == 1, done.stdout


@pytest.mark.deep
@pytest.mark.parametrize("code", [2, 3, 124, 126, 127, 130, 137, 143, 255])
def test_an_exit_code_is_told_as_it_is(attacked: Attacked, code: int) -> None:
    """A stage that ends with a code that Docker or a shell also uses fails once, and nobody else is blamed."""
    attacked.does(f"print('RUN {code}', flush=True); os._exit({code})")
    done = attacked.run()
    assert done.returncode == 2 and done.stdout.count(f"| RUN {code}") == 1, done.stdout
    assert "from outside" not in done.stdout or code in (137, 143)
    attacked.check_untouched()


FLOODS = {
    "lines": "while True: os.write(1, b'y\\n' * 20000)",
    "one line": "while True: os.write(1, b'y' * 40000)",
    "both streams": "while True: os.write(1, b'out\\n' * 9000); os.write(2, b'err\\n' * 9000)",
    "that ignores signals": (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "while True: os.write(1, b'y\\n' * 20000)"
    ),
}


@pytest.mark.deep
@pytest.mark.parametrize("flood", FLOODS.values(), ids=list(FLOODS))
def test_ctrl_c_ends_a_flood(attacked: Attacked, flood: str) -> None:
    """Ctrl-C with a stage that floods its output: the prompt is back within 15 s, and the next run is right."""
    attacked.does(flood)
    with subprocess.Popen(
        ["make", "run"], cwd=attacked.clone.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True, env={key: value for key, value in os.environ.items() if key != "PWD"},
    ) as process:  # fmt: skip
        begun = threading.Event()

        def read() -> None:
            while piece := process.stdout.read(1 << 16):
                if b"yyy" in piece or b"| y" in piece or b"| out" in piece:
                    begun.set()

        reader = threading.Thread(target=read)
        reader.start()
        assert begun.wait(60)
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=15 + 10)
        reader.join()
    wait_until(
        lambda: not attacked.clone.docker("container", "ls", "--quiet", "--filter", "label=pipeline.stage"), "end"
    )
    attacked.check_next_run(f"after-{list(FLOODS.values()).index(flood)}")


MUCH = {
    "60 MB without a line break": "[os.write(1, b'x' * 60_000) for _ in range(1000)]",
    "a million lines": "[os.write(1, b'a line\\n' * 1000) for _ in range(1000)]",
    "carriage returns": "[os.write(1, b'12 % \\r' * 1000) for _ in range(1000)]",
    "what is no text": "[os.write(1, bytes(range(256)) * 100) for _ in range(200)]",
}


@pytest.mark.deep
@pytest.mark.parametrize("code", MUCH.values(), ids=list(MUCH))
def test_much_is_read_to_its_end(attacked: Attacked, code: str, request: pytest.FixtureRequest) -> None:
    """However much a stage prints, and of what kind: the run ends, and is right."""
    attacked.does(f"{code}  # {request.node.name}")
    done = attacked.run()
    assert done.returncode == 0, done.stdout[-2000:]
    assert not POWER.search(done.stdout)
