"""What `make check` finds, and the comment that says why one finding is harmless."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from scripts.pipeline.console import printable

ALLOW = re.compile(r"#\s*check:\s*allow\b[ \t]*([\w-]*)[ \t]*,?[ \t]*(.*)")
"""`# check: allow clock, <reason>`, on the line of the finding."""
LONGEST = 500
"""Characters of a finding: some of its words are a stage's."""


class Finding(NamedTuple):
    """A promise of the stage contract that is not kept: where, what, why it matters, and what to do."""

    file: str
    line: int
    rule: str
    what: str
    why: str
    do: str
    last_line: int = 0  # of a statement of several lines

    def __str__(self) -> str:
        return printable(f"{self.file}:{self.line}: {self.rule}: {self.what}; {self.why}: {self.do}")[:LONGEST]

    @property
    def lines(self) -> range:
        return range(self.line, max(self.line, self.last_line) + 1)


class _Allowance(NamedTuple):
    line: int
    rule: str
    reason: str


def but_allowed(
    found: Iterable[Finding], texts: Iterable[tuple[str, str]], rules: Iterable[str], read: Callable[[str], str]
) -> Iterator[Finding]:
    """Yield what is found and not allowed, and each allowance of `texts` (file, text) that is wrong or allows nothing.

    `read` returns the text of any other file that a finding is in.
    """
    allowances = {file: list(_allowances(text)) for file, text in texts}
    used: set[tuple[str, int]] = set()
    for each in found:
        if each.file not in allowances:
            allowances[each.file] = list(_allowances(read(each.file)))
        allowed = [a for a in allowances[each.file] if a.rule == each.rule and a.line in each.lines and a.reason]
        used |= {(each.file, a.line) for a in allowed}
        if not allowed:
            yield each
    known = ", ".join(sorted(rules))
    for file, allowed in allowances.items():
        for each in allowed:
            if (file, each.line) not in used:
                yield _wrong(file, each, known)


def _allowances(text: str) -> Iterator[_Allowance]:
    for number, line in enumerate(text.splitlines(), 1):
        if found := ALLOW.search(line):
            yield _Allowance(number, found[1], found[2].strip())


def _wrong(file: str, each: _Allowance, known: str) -> Finding:
    if each.rule not in known.split(", "):
        what, do = f"it allows {each.rule or 'nothing'!r}, which is no rule", f"name one of {known}"
    elif not each.reason:
        what, do = f"it allows {each.rule} without a reason", f"write '# check: allow {each.rule}, <reason>'"
    else:
        what, do = f"it allows {each.rule}, and nothing of that is found on this line", "delete the comment"
    return Finding(file, each.line, "allow", what, "an allowance is read by whoever asks why the check passes", do)
