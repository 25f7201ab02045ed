"""What a registry shows of a model with many versions, without reading all of them. By plain REST calls."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import requests

from scripts.registry import reader, records
from scripts.registry.records import State, Version

FEW = 20
"""A model with no more versions is read whole, in as many calls."""
BAD_REQUEST = 400
LATELY, NEWEST = "last_updated_timestamp DESC", "version_number DESC"


class Glance(NamedTuple):
    """What is seen of a model: all of its versions, or some; and a digest of that, equal for two that see the same."""

    state: State
    is_whole: bool
    digest: str = ""


def lately(model: str) -> Glance | None:
    """Return the versions of `model` that changed last; None if there is no such model.

    A server notes when a version was made, and when its stage or description last changed. One that does not, or that
    lists versions in an order of its own, is read whole. Raise as `reader.read` does.
    """
    return _glance(model, LATELY, _are_by_time)


def newest(model: str) -> Glance | None:
    """Return the newest versions of `model`, and those that it names itself; None as `lately` does."""
    return _glance(model, NEWEST, _are_by_number)


def with_version(model: str, which: str) -> State | None:
    """Return the newest versions of `model` with the one that a number or an alias names; all if none is named."""
    seen = newest(model)
    if seen is None or seen.is_whole or which in seen.state.aliases:
        return seen and seen.state
    number = int(which) if re.fullmatch("[0-9]{1,9}", which) else 0
    state = _with(seen.state, [number] if number else [], model)
    return state if state.version(number) else reader.read(model)


def _glance(model: str, order: str, is_in_order: Any) -> Glance | None:
    found = reader.get("registered-models/get", name=model)
    if found is None:
        return None
    page = _page(f"name='{model}'", order_by=order)
    if page is not None and not page.get("next_page_token"):
        return Glance(reader.state_of(found, [page]), is_whole=True)
    if page is None or not is_in_order(page):
        state = reader.read(model)
        return state and Glance(state, is_whole=True)
    seen = json.dumps([found, page], sort_keys=True).encode()
    state = reader.state_of(found, [page])
    if order == NEWEST:
        state = _with(state, _named(found, state), model)
    return Glance(state, is_whole=False, digest=hashlib.sha256(seen).hexdigest())


def knows_none(model: str, which: str, *, but: int = 0) -> bool:
    """Return True if the server says that `which` holds of no version but one; False also if it does not know what is
    meant."""
    page = _page(f"name='{model}' and {which}")
    if page is None or not isinstance(listed := page.get("model_versions", []), list):
        return False
    return all(isinstance(each, Mapping) and str(each.get("version")) == str(but) for each in listed)


def _page(which: str, **query: str) -> dict[str, Any] | None:
    """Return the first page of the versions that are asked for; None if the server refuses to look for them so."""
    try:
        return reader.get("model-versions/search", filter=which, max_results=str(FEW), **query) or {}
    except requests.HTTPError as error:
        if error.response.status_code != BAD_REQUEST:
            raise
        return None


def version(model: str, number: int) -> Version | None:
    """Return a version; None if it is not there. Raise as `reader.read` does."""
    found = reader.get("model-versions/get", name=model, version=str(number))
    try:
        return Version.of(found["model_version"]) if found else None
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        raise ValueError(reader.NOT_MLFLOWS) from None


def _listed(page: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    listed = page.get("model_versions")
    return listed if isinstance(listed, list) and all(isinstance(each, Mapping) for each in listed) else []


def _numbers(page: Mapping[str, Any], key: str) -> list[int]:
    try:
        return [int(each[key]) for each in _listed(page)]
    except (KeyError, TypeError, ValueError, OverflowError):
        return []


def _are_by_time(page: Mapping[str, Any]) -> bool:
    """Return True if versions are listed by the time of their last change, and some were changed."""
    made, changed = (_numbers(page, f"{which}_timestamp") for which in ("creation", "last_updated"))
    was_changed = any(then < last for then, last in zip(made, changed, strict=False))
    return len(made) == len(changed) and was_changed and changed == sorted(changed, reverse=True)


def _are_by_number(page: Mapping[str, Any]) -> bool:
    numbers = _numbers(page, "version")
    return bool(numbers) and numbers == sorted(numbers, reverse=True)


def _named(found: Mapping[str, Any], state: State) -> set[int]:
    """Return the versions that the model itself names: by an alias, as the last one of a stage, or as in production."""
    latest = _numbers({"model_versions": found["registered_model"].get("latest_versions")}, "version")
    last, ours = records.applied(state), [state.aliases.get(name, 0) for name in ("production", "staging")]
    others = sorted({*state.aliases.values(), *latest})[-FEW:]  # of the strangers' aliases not all
    return {*others, *ours, last.version if last else 0} - {0}


def _with(state: State, numbers: Iterable[int], model: str) -> State:
    more = [version(model, number) for number in numbers if state.version(number) is None]
    return state._replace(versions=tuple(sorted([*state.versions, *filter(None, more)])))
