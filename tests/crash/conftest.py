"""Shows what the kills came to as tables."""

from collections import defaultdict

import pytest
from tabulate import tabulate

SIGNS = {"passed": "ok", "failed": "FAILED", "skipped": "-"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=20261125, help="of the random kills; the same one gives the same ones")
    parser.addoption("--kills", type=int, default=100, help="how many random kills")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    table: dict[str, dict[str, str]] = defaultdict(dict)
    for outcome, sign in SIGNS.items():
        for report in terminalreporter.stats.get(outcome, []):
            found = dict(report.user_properties)
            if "victim" in found:
                table[found["point"]][found["victim"]] = sign
            elif "seed" in found:
                terminalreporter.write_line(f"random kills: {sign}, {found}")
    victims = list(dict.fromkeys(victim for row in table.values() for victim in row))
    rows = [[point, *(row.get(victim, "") for victim in victims)] for point, row in table.items()]
    if rows:
        terminalreporter.write_line("kills; -: there is no such process then")
        terminalreporter.write_line(tabulate(rows, headers=["point", *victims]))
