"""The server's routes: answers, refusals, and what it says of itself."""

import json
import os
import re
import sys
import threading
import time

import pytest
import schemathesis
from conftest import ROW
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_server.server import check_program, create
from schemathesis.generation import GenerationMode

DEEP = bool(os.environ.get("DEEP"))
JSON, CSV = {"content-type": "application/json"}, {"content-type": "text/csv"}
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
anything = st.recursive(plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner))
near_misses = st.fixed_dictionaries(
    {},
    optional={
        name: anything
        | st.lists(st.dictionaries(st.sampled_from(["x", "n", "word", "y"]), plain), max_size=3)
        | st.fixed_dictionaries({"columns": anything, "data": st.lists(st.lists(plain), max_size=3)})
        for name in ("dataframe_split", "dataframe_records", "inputs", "instances", "params", "other")
    },
)

bodies = st.binary(max_size=100) | (anything | near_misses).map(lambda value: json.dumps(value).encode())


def send(client, *rows, **options):
    return client.post("/invocations", json={"dataframe_records": list(rows)}, **options)


def test_an_answer_says_which_version_gave_it(client, server):
    """Predictions come in MLflow's form, with version and hash in the headers; all=1 gives all that there is."""
    found = send(client, ROW, ROW | {"x": 4})
    assert found.status_code == 200 and found.json() == {"predictions": [3.0, 8.0]}
    assert found.headers["x-model-version"] == "1"
    assert found.headers["x-model-sha256"] == server.serving.current.sha256
    assert send(client, ROW, params={"all": "1"}).json() == {"predictions": [{"prediction": 3.0, "half": 0.75}]}
    csv = client.post("/invocations", content="x,word\n1.5,a\n4,b\n", headers=CSV)
    assert csv.json() == {"predictions": [3.0, 8.0]}


@settings(max_examples=300 if DEEP else 50, deadline=None, suppress_health_check=[*HealthCheck])
@given(body=bodies, kind=st.sampled_from([JSON, CSV]))
def test_bad_bodies_get_a_sentence(client, body, kind):
    """300 bodies: each is answered, or refused with 4xx and one sentence, in which no path and no trace is."""
    found = client.post("/invocations", content=body, headers=kind)
    if found.status_code == 200:
        assert isinstance(found.json()["predictions"], list)
        return
    assert 400 <= found.status_code < 500, found.text
    message = found.json()["message"]
    assert "expected" in message and "\n" not in message and len(message) < 700
    assert "Traceback" not in message and "/opt" not in message and "/tmp" not in message


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        ({"content": "x", "headers": {"content-type": "text/plain"}}, 415, 'the content type is "text/plain"'),
        ({"content": b"x"}, 415, 'the content type is ""'),
        ({"content": "x", "headers": {"content-type": "text/csv; charset=utf-16"}}, 415, 'the charset is "utf-16"'),
        ({"content": "x", "headers": JSON | {"content-encoding": "gzip"}}, 415, "the body is packed"),
        ({"content": b"0" * 20_001, "headers": JSON}, 413, "the body has more than 20000 bytes"),
        ({"json": {"dataframe_records": [ROW | {"word": "refuse"}]}}, 400, "the word is 'refuse'"),
        ({"json": {"dataframe_records": [ROW | {"word": "crash"}]}}, 500, "the model failed on these rows (Runtime"),
        ({"json": {"dataframe_records": [ROW | {"word": "exit"}]}}, 500, "predict ended the program (enough)"),
        ({"json": {"dataframe_records": [ROW, ROW | {"word": "forget"}]}}, 500, "predict made 1 rows of 2 rows"),
    ],
)
def test_what_is_refused(client, options, status, words):
    """Each refusal has its status and a sentence; what the model itself printed stays in the log."""
    found = client.post("/invocations", **options)
    assert (found.status_code, words in found.json()["message"]) == (status, True), found.text
    assert "secret" not in found.text


def test_a_program_that_cannot_be_imported_ends_it(monkeypatch):
    """A predict.py that fails as it is imported ends the server with a sentence: whoever started it starts another."""
    monkeypatch.setitem(sys.modules, "predict", None)
    with pytest.raises(SystemExit, match=r"predict\.py cannot be imported"):
        check_program()


def test_other_addresses_get_a_sentence(client):
    """An address that is not there, and a method that is not, are told what there is."""
    for found, status in ((client.get("/etc/passwd"), 404), (client.get("/invocations"), 405)):
        assert found.status_code == status and "POST /invocations" in found.json()["message"]


def test_not_ready_without_a_model(server, want, version):
    """Without a version it answers that none serves, and why; with one it is ready."""
    from fastapi.testclient import TestClient

    client = TestClient(create(server))
    want(version(1, broken=True))
    server.serving.look()
    for found in (client.get("/ping"), client.get("/health"), send(client, ROW)):
        assert (
            found.status_code == 503 and "no version serves (version 1 failed on the sample" in found.json()["message"]
        )
    assert client.get("/version").json()["version"] is None and client.get("/docs").status_code == 200
    want(version(2))
    server.serving.look()
    assert client.get("/ping").json() == {"status": "serving", "version": 2} and send(client, ROW).status_code == 200


def test_a_rows_neighbours_do_not_matter(client, server):
    """Requests that are answered in one round get their own rows, and one that fails spoils no other."""
    held, answers = threading.Event(), {}
    model = server.serving.current
    first = model.predict
    model.predict = lambda features: (held.wait(10), first(features))[1]
    with client:  # one event loop for all
        threads = [
            threading.Thread(target=lambda n=n: answers.update({n: send(client, ROW | {"x": n, "word": word(n)})}))
            for n in range(12)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        held.set()
        for thread in threads:
            thread.join()
    assert {n: found.status_code for n, found in answers.items()} == {n: 500 if n == 7 else 200 for n in range(12)}
    assert all(found.json()["predictions"] == [2.0 * n] for n, found in answers.items() if n != 7)


def word(number):
    return "crash" if number == 7 else "fine"


def test_an_answer_that_takes_too_long_is_given_up(client, server):
    """After the time limit the request is refused, and the next one is answered."""
    server.limits.seconds = 0.2
    model = server.serving.current
    first = model.predict
    model.predict = lambda features: (time.sleep(0.5), first(features))[1]
    assert send(client, ROW).status_code == 504
    model.predict, server.limits.seconds = first, 5
    assert send(client, ROW).status_code == 200


def test_the_example_of_the_page_works(client, server, tmp_path):
    """Each example of the OpenAPI document can be sent as it stands; the page needs nothing from elsewhere."""
    (tmp_path / "sample.json").write_text(json.dumps([ROW, ROW | {"x": 0.1}]))
    document = client.get("/openapi.json").json()
    content = document["paths"]["/invocations"]["post"]["requestBody"]["content"]
    for each in content["application/json"]["examples"].values():
        assert client.post("/invocations", json=each["value"]).json() == {"predictions": [3.0, 0.2]}
    assert client.post("/invocations", content=content["text/csv"]["example"], headers=CSV).status_code == 200
    page = client.get("/docs").text
    linked = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert len(linked) >= 3 and not [link for link in linked if "//" in link]
    assert all(client.get(f"/{link}").status_code == 200 for link in linked)


def test_what_prometheus_is_told(client):
    """Requests are counted by status and version, and what serves has its number."""
    send(client, ROW)
    send(client, {})
    text = client.get("/metrics").text
    assert 'serving_requests_total{status="200",version="1"} 1.0' in text
    assert 'serving_requests_total{status="400",version="1"} 1.0' in text
    assert "serving_model_version 1.0" in text and 'serving_rows_total{version="1"} 1.0' in text


def test_the_shadow_is_asked_too(client, server, want, version, tmp_path):
    """The version in the shadow predicts the same rows, answers nobody, and is counted where it differs."""
    want(version(1), version(2, factor=3))
    server.serving.look()
    with client:  # one loop for all requests: the shadow is asked when the answer has gone
        assert send(client, ROW, ROW | {"x": 0}).json() == {"predictions": [3.0, 0.0]}
        deadline = time.monotonic() + 60
        while 'serving_shadow_rows_differ_total{version="2"} 1.0' not in (text := client.get("/metrics").text):
            assert time.monotonic() < deadline, text
            time.sleep(0.01)
    assert 'serving_shadow_rows_total{version="2"} 2.0' in text
    notes = [json.loads(line) for line in (tmp_path / "log" / "requests.jsonl").read_text().splitlines()]
    assert [note.get("differ") for note in notes if "shadow" in note] == [1]


def test_the_log_holds_values_only_if_asked(client, server, tmp_path):
    """A request is a line with status, rows and version; what was sent and answered is in it if that is wanted."""
    send(client, ROW)
    server.journal._values = False
    send(client, ROW)
    full, bare = [json.loads(line) for line in (tmp_path / "log" / "requests.jsonl").read_text().splitlines()]
    assert full["inputs"] == {name: [value] for name, value in ROW.items()} and full["predictions"]["prediction"] == [3]
    assert bare.keys() == {"at", "rows", "status", "version", "seconds"}


@pytest.mark.skipif(not DEEP, reason="one case of an exhaustive product: a minute")
@pytest.mark.parametrize("mode", [*GenerationMode], ids=lambda mode: mode.value)
def test_no_request_breaks_it(client, mode):
    """schemathesis finds no 5xx in what it makes of the OpenAPI document, be it as that says or not."""
    api = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    for operation in (found.ok() for found in api.get_all_operations()):
        if mode is GenerationMode.NEGATIVE and not operation.body:
            continue  # there is nothing in it that could be wrong

        @settings(max_examples=50, deadline=None, suppress_health_check=[*HealthCheck])
        @given(case=operation.as_strategy(generation_mode=mode))
        def call(case):
            found = case.call()
            assert found.status_code < 500, found.text

        call()
