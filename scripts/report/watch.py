"""Watches the containers of a run's stages, in a process of its own: `python watch.py CLONE FILE`.

It asks Docker's socket when each one starts and ends, and twice a second what it uses, and adds a line of JSON for each
answer to the file. It ends with its standard input. Only what Python brings along is imported, to start quickly.
"""

import json
import os
import select
import socket
import sys
import threading
import time
from http.client import HTTPConnection, HTTPException
from urllib.parse import quote

SOCKET = "/var/run/docker.sock"
PAUSE = 0.5  # seconds between two looks at a container
PATIENCE = 10  # seconds for an answer


class Docker(HTTPConnection):
    """A connection to the engine."""

    def __init__(self, path: str = SOCKET, timeout: float = PATIENCE) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Watch:
    """What is known of the containers that run: by id, the stage of each."""

    def __init__(self, clone: str, file: str, path: str = SOCKET) -> None:
        self._path, self._file = path, os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._clone, self._running = clone, {}

    def say(self, **fact: object) -> None:
        """Add a line, in one piece: the run adds its own to the same file."""
        os.write(self._file, (json.dumps({"at": time.time()} | fact) + "\n").encode())

    def follow(self) -> None:
        """Note each start and end of a container, until the engine ends the answer."""
        wanted = {
            "type": ["container"],
            "event": ["start", "die"],
            "label": [f"pipeline.clone={self._clone}", "pipeline.stage"],
        }
        connection = Docker(self._path)
        connection.request("GET", f"/events?filters={quote(json.dumps(wanted))}")
        answer = connection.getresponse()
        connection.sock and connection.sock.settimeout(None)
        for line in iter(answer.readline, b""):
            event = json.loads(line)
            stage = event["Actor"]["Attributes"]["pipeline.stage"]
            if event["Action"] == "start":
                self._running[event["Actor"]["ID"]] = stage
            else:
                self._running.pop(event["Actor"]["ID"], None)
            what = {"start": "container starts", "die": "container ends"}[event["Action"]]
            self.say(kind=what, stage=stage, container=event["Actor"]["ID"][:12], at=event["timeNano"] / 1e9)

    def look(self) -> None:
        """Note what each running container uses now, and has used."""
        connection = Docker(self._path)
        for container, stage in list(self._running.items()):
            connection.request("GET", f"/containers/{container}/stats?stream=false&one-shot=true")
            answer = connection.getresponse()
            found = json.loads(answer.read())
            if answer.status == 200 and (memory := found.get("memory_stats", {})).get("usage"):
                # As `docker stats` counts it: without what the kernel keeps of files and can give back.
                used = memory["usage"] - memory.get("stats", {}).get("inactive_file", 0)
                peak = memory.get("max_usage", used)
                seconds = found["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
                self.say(kind="uses", stage=stage, container=container[:12], memory=max(used, peak), cpu=seconds)
        connection.close()


def main(clone: str, file: str) -> None:
    with open("/proc/self/comm", "w") as name:  # noqa: PTH123
        name.write("watch")  # so that `ps` tells it from a stage's process
    watch = Watch(clone, file)
    threading.Thread(target=quietly, args=(watch.follow,), daemon=True).start()
    while not select.select([sys.stdin], [], [], PAUSE)[0]:
        quietly(watch.look)


def quietly(call) -> None:
    """Call it; an engine that is away, or a container that is gone, is no news: the run says it."""
    try:
        call()
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        time.sleep(PAUSE)


if __name__ == "__main__":
    main(*sys.argv[1:])
