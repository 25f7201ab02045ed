"""What a stage's requirements owe: every package that is asked for, exact, with its hash, as the base has it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from scripts.contract.finding import Finding

NAME = "requirements.in"
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")
ASKED = re.compile(r"-r \S*requirements\.in\b")
"""What `make lock` notes beside a package that requirements.in names."""
KNOWN_TO_THE_BYTE = "what is installed into an image must be known to the byte"


def locks(root: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Give each requirements.in below `root`, in the order of resolving, with the locks that it must agree with."""
    runner, base = Path("scripts", NAME), Path("stages", "base", NAME)
    with_tests = base.parent / "tests" / NAME
    found = [
        path.relative_to(root)
        for places in ("stages/*", "tests/*", "scripts/*", "scripts/*/*")
        for path in sorted(root.glob(f"{places}/{NAME}"))
    ]
    yield runner, []
    yield base, []
    yield with_tests, [base.with_suffix(".txt")]
    for source in found:
        if source != base:
            own = {"stages": [base, with_tests], "tests": [runner], "scripts": []}[source.parts[0]]
            yield source, [path.with_suffix(".txt") for path in own]


class Package(NamedTuple):
    """A package of a requirements file: its line there, its exact version if there is one, and all that is said."""

    line: int
    version: str
    text: str


def packages(path: Path) -> dict[str, Package]:
    """Return the packages of a requirements.in or .txt by their normalized names; none if there is no such file."""
    found: dict[str, Package] = {}
    name = ""
    for number, line in enumerate(path.read_text(errors="replace").splitlines() if path.exists() else [], 1):
        if match := re.match(r"([A-Za-z0-9][\w.-]*)(\[[^\]]*\])?\s*([^#;]*)", line):
            name = re.sub(r"[-_.]+", "-", match[1]).lower()
            exact = re.match(r"===?\s*([^\s,\\]+)\s*(\\|--hash|$)", match[3])
            found[name] = Package(number, exact[1] if exact else "", line)
        elif name and line[:1].isspace():
            found[name] = found[name]._replace(text=f"{found[name].text}\n{line}")
    return found


def check(root: Path) -> Iterator[Finding]:
    """Check each requirements.in of stages/ against the requirements.txt beside it."""
    for source, agreed in locks(root):
        if source.parts[0] == "stages":
            yield from _check(root, source, agreed)
    for path in sorted(root.glob("stages/*/requirements.txt")):
        yield from _pins(path, str(path.relative_to(root)))


def _check(root: Path, source: Path, agreed: list[Path]) -> Iterator[Finding]:
    if not (root / source).exists():
        return
    lock = source.with_suffix(".txt")
    asked, locked = packages(root / source), packages(root / lock)
    if not (root / lock).exists():
        what, why = f"there is no {lock}", "the image would install nothing of this"
        yield Finding(str(source), 1, "requirements", what, why, "run 'make lock'")
        return
    for name, each in asked.items():
        if name not in locked:
            what, why = f"{name} is not in {lock}", "that is what the image installs"
            yield Finding(str(source), each.line, "requirements", what, why, "run 'make lock'")
        elif each.version and each.version != locked[name].version:
            what = f"{name} {each.version} is asked for, and {lock} has {locked[name].version or 'no version'}"
            yield Finding(str(source), each.line, "requirements", what, "the image gets the second", "run 'make lock'")
    for name, each in locked.items():
        if ASKED.search(each.text) and name not in asked:
            what, why = f"{name} is no longer asked for by {source}", "the image would still install it"
            yield Finding(str(lock), each.line, "requirements", what, why, "run 'make lock'")
        for other in agreed:
            theirs = packages(root / other).get(name)
            if theirs and theirs.version != each.version:
                what = f"{name} is {each.version or 'of no version'}, in {other} it is {theirs.version}"
                why = "both are installed into one image, and the last one wins"
                yield Finding(str(lock), each.line, "requirements", what, why, "run 'make lock'")


def _pins(path: Path, shown: str) -> Iterator[Finding]:
    for name, each in packages(path).items():
        lacking = [what for what, there in (("version", each.version), ("hash", HASH.search(each.text))) if not there]
        if lacking:
            what = f"{name} has no exact {' and no '.join(lacking)}"
            yield Finding(shown, each.line, "requirements", what, KNOWN_TO_THE_BYTE, "run 'make lock'")
