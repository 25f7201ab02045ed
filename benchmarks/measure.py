"""What is measured and how it is summed up: medians, spreads, ratios, bounds. Nothing here starts anything."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

Sample = Mapping[str, float]
"""What one repetition gave, by unit: {"s": 3.2}, or {"s": 3.2, "MB": 210}."""


@dataclass(frozen=True)
class Measurement:
    """The values of all repetitions of one thing; `name` says of what, `unit` is s, MB or bytes."""

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def as_json(self) -> dict[str, Any]:
        """As results.json has it: with the median and the spread, to a thousandth."""
        spread = {"median": self.median, "min": min(self.values), "max": max(self.values)}
        rounded = {name: round(value, 3) for name, value in spread.items()}
        return {"name": self.name, "unit": self.unit, **rounded, "values": [round(value, 3) for value in self.values]}


@dataclass(frozen=True)
class Bound:
    """What a value must be at most or at least."""

    what: str
    value: float
    sign: str  # "<=" or ">="
    limit: float

    @property
    def met(self) -> bool:
        return self.value <= self.limit if self.sign == "<=" else self.value >= self.limit

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"value": round(self.value, 3), "met": self.met}


@dataclass
class Record:
    """What one comparison has found so far; `say` is told of each value."""

    say: Callable[[str], None] = print
    measured: dict[tuple[str, str], Measurement] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    bounds: list[Bound] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    parts: dict[str, list[str]] = field(default_factory=dict)
    """By the name of a whole, what it is made of, in order: drawn as one bar."""

    def alternate(self, sides: Mapping[str, Callable[[], Sample]], repetitions: int) -> None:
        """Calls the sides in turn, A B A B ..., so that whatever else the machine does falls on each alike."""
        for _ in range(repetitions):
            for name, call in sides.items():
                for unit, value in call().items():
                    self.add(name, value, unit)

    def add(self, name: str, value: float, unit: str = "s") -> None:
        """One more value of what is called `name`."""
        before = self.measured.get((name, unit))
        self.measured[name, unit] = Measurement(name, unit, (*(before.values if before else ()), float(value)))
        self.say(f"{name}: {value:,.2f} {unit}")

    def median(self, name: str, unit: str = "s") -> float:
        return self.measured[name, unit].median

    def largest(self, unit: str, names: str) -> float:
        """The largest value in this unit of all that have `names` in their names."""
        return max(max(m.values) for m in self.measured.values() if m.unit == unit and names in m.name)

    def ratio(self, above: str, below: str, unit: str = "s") -> float:
        """How many times the median of `below` that of `above` is; kept under both names."""
        found = self.median(above, unit) / self.median(below, unit)
        self.ratios[f"{above} / {below}"] = found
        return found

    def at_most(self, what: str, value: float, limit: float) -> None:
        self.bounds.append(Bound(what, value, "<=", limit))

    def at_least(self, what: str, value: float, limit: float) -> None:
        self.bounds.append(Bound(what, value, ">=", limit))

    def as_json(self) -> dict[str, Any]:
        return {
            "measured": [measurement.as_json() for measurement in self.measured.values()],
            "ratios": {name: round(value, 3) for name, value in self.ratios.items()},
            "bounds": [bound.as_json() for bound in self.bounds],
            "parts": self.parts,
            "notes": self.notes,
        }
