"""A registry of many versions, of which a look sees a few: what it must notice all the same, and when it reads all."""

import json
import re

import pytest
import requests

from scripts.registry import glance, reader, receipts
from scripts.registry.receipts import OnDisk

MANY = 60
TIMES = ("creation_timestamp", "last_updated_timestamp")


class Server:
    """An MLflow server that has one model; `calls` are those that it was asked, in short."""

    def __init__(self):
        self.versions, self.tags, self.aliases = {}, {}, {}
        self.refuses, self.ignores, self.calls, self.now = (), (), [], 0
        for number in range(1, MANY + 1):
            self.add(number)
        self.put(MANY, "Production")
        self.aliases, self.tags = {"production": MANY, "staging": MANY - 1}, {"production_turn": f"{MANY}.0.{MANY}"}

    def add(self, number):
        self.now += 1
        decision = "Production" if number % 10 == 0 else "Staging"
        record = json.dumps({"turn": number, "score": 0.9})
        own = {"model_sha256": f"sha {number}", "dvc_lock_sha256": "lock"}
        stage = "Archived" if decision == "Production" else "Staging"
        tags = {**own, "decision": decision, "decision_record": record}
        times = dict.fromkeys(TIMES, self.now)
        self.versions[number] = {"version": str(number), "current_stage": stage, "run_id": "r", "tags": tags, **times}

    def promote(self, number, turn):
        self.versions[number]["tags"][f"promotion_{turn}"] = json.dumps({"turn": turn, "version": number})

    def put(self, number, stage):
        self.now += 1
        self.versions[number] |= {"current_stage": stage, "last_updated_timestamp": self.now}

    def get(self, call, **query):
        """Answer as `reader.get` does."""
        self.calls.append(call.split("/")[1] if call != "model-versions/search" else self._asked(query))
        match call:
            case "registered-models/get":
                aliases = [{"alias": name, "version": str(number)} for name, number in self.aliases.items()]
                return {"registered_model": {"aliases": aliases, "tags": pairs(self.tags)}}
            case "model-versions/get":
                found = self.versions.get(int(query["version"]))
                return {"model_version": listed(found)} if found else None
            case "runs/get":
                return {"run": {"info": {"lifecycle_stage": "active"}}}
        return self._search(**query)

    @staticmethod
    def _asked(query):
        if "order_by" in query:
            return query["order_by"].split()[0]
        return "filtered" if " and " in query["filter"] else "all"

    def _search(self, filter, max_results, order_by="version_number DESC", page_token="0"):
        for word in self.refuses:
            if word in filter or word in order_by:
                response = requests.Response()
                response.status_code = 400
                raise requests.HTTPError("refused", response=response)
        found = [each for each in self.versions.values() if self._holds(filter, each)]
        if order_by.split()[0] not in self.ignores:
            key = order_by.split()[0].removesuffix("_number")
            found.sort(key=lambda each: int(each[key]), reverse=True)
        first, size = int(page_token), int(max_results)
        more = {"next_page_token": str(first + size)} if len(found) > first + size else {}
        return {"model_versions": [listed(each) for each in found[first : first + size]], **more}

    def _holds(self, filter, version):
        match = re.search(r"tags\.(\w+) (=|LIKE) '(.*)'", filter)
        if not match or "tags" in self.ignores:
            return True
        return match[1] in version["tags"] and match[3] in ("%", version["tags"][match[1]])


def pairs(tags):
    return [{"key": key, "value": value} for key, value in tags.items()]


def listed(version):
    return version | {"tags": pairs(version["tags"])}


@pytest.fixture
def server(monkeypatch):
    found = Server()
    monkeypatch.setattr(reader, "get", found.get)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    return found


def on_disk(number):
    return OnDisk("m", f"sha {number}", "lock", "accuracy", 0.9)


def test_a_registry_that_is_as_it_was_is_not_read_whole(server):
    """What a run noted of a registry at rest holds as long as that shows the same: no reading of all versions."""
    model = receipts.noted(on_disk(3))
    assert model.version == 3
    server.calls.clear()
    assert receipts.find(model).version == "3"
    assert "all" not in server.calls


def test_a_registry_with_nothing_in_production_is_read_whole(server):
    """Where a person took out what was in production, the one who did so may be anywhere."""
    record = {"turn": MANY + 1, "version": None}
    server.versions[MANY]["tags"][f"promotion_{MANY + 1}"] = json.dumps(record)
    server.put(MANY, "Archived")
    server.aliases.pop("production")
    server.tags["production_turn"] = f"{MANY + 1}.1.0"
    assert receipts.find(receipts.noted(on_disk(3))).version == "3"
    assert server.calls.count("all") == 2


CHANGES = {
    "a version was put somewhere": lambda server: server.put(7, "Production"),
    "a version came": lambda server: server.add(MANY + 1),
    "an alias was moved": lambda server: server.aliases.update(production=4),
    "the model's version lost its decision": lambda server: server.versions[3]["tags"].pop("decision"),
    "the champion lost its decision": lambda server: server.versions[MANY]["tags"].pop("decision"),
    "the champion is gone": lambda server: server.versions.pop(MANY),
    "the model's version is gone": lambda server: server.versions.pop(3),
    "a person decided on an old one": lambda server: server.promote(5, MANY + 1),
    "a person decided at the same moment": lambda server: server.promote(5, MANY),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_noticed(server, change):
    """Whatever may have to be mended makes a run read all of a registry, which says what the records say."""
    model = receipts.noted(on_disk(3))
    CHANGES[change](server)
    server.calls.clear()
    assert receipts.find(model) is None
    assert "all" in server.calls or server.calls[-1] == "filtered"  # the last: it has no such model any more


@pytest.mark.parametrize("what", ["last_updated", "tags."])
def test_a_server_that_refuses_a_question_is_read_whole(server, what):
    """Servers that know no order, or no filter by tags, give the same answer, by a reading of all."""
    server.refuses = (what,)
    assert receipts.find(receipts.noted(on_disk(3))).version == "3"
    assert "all" in server.calls


@pytest.mark.parametrize("what", ["last_updated_timestamp", "version_number", "tags"])
def test_a_server_that_ignores_a_question_is_read_whole(server, what):
    """Servers that list versions as they like, or all of them, are not taken at their word."""
    server.ignores = (what,)
    assert receipts.find(receipts.noted(on_disk(3))).version == "3"
    assert glance.newest("m").state.version(MANY)
    assert "all" in server.calls


def test_a_server_that_does_not_note_changes_is_read_whole(server):
    """Where no version has another time of change than it was made at, the times say nothing."""
    for version in server.versions.values():
        version["last_updated_timestamp"] = version["creation_timestamp"]
    assert receipts.noted(on_disk(3)) == on_disk(3)


def test_few_versions_are_read_as_ever(server):
    """A model of few versions is seen whole at the first look, in no more calls than before."""
    for number in range(20, MANY):
        server.versions.pop(number)
    server.calls.clear()
    assert receipts.find(on_disk(3)) is None  # the alias staging names none
    assert server.calls == ["get", "last_updated_timestamp"]
    assert glance.lately("m").state == reader.read("m")


def test_the_newest_come_with_those_that_the_model_names(server):
    """The newest versions are seen, and an old one with an alias; of a stranger's hundred aliases not all."""
    server.aliases["stable"] = 2
    seen = glance.newest("m").state
    assert [version.number for version in seen.versions] == [2, *range(MANY - glance.FEW + 1, MANY + 1)]
    server.aliases |= {f"alias{number}": number for number in range(1, MANY)}
    server.calls.clear()
    glance.newest("m")
    assert len(server.calls) <= 2 + glance.FEW + 3


@pytest.mark.parametrize(("which", "seen", "is_all"), [("5", 5, False), ("stable", 2, False), ("999", MANY, True)])
def test_a_version_is_found_by_number_or_alias(server, which, seen, is_all):
    """An old version is found by its own call; all are read to say that there is none."""
    server.aliases["stable"] = 2
    server.calls.clear()
    assert glance.with_version("m", which).version(seen)
    assert ("all" in server.calls) == is_all
