"""Servers that no proxy can play: one that takes a request and never answers, one that breaks its answer off."""

import socket
import threading
import time

HALF = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"model_versions": [{"na'


def serve(port: int, answer: bytes | None) -> None:
    """Takes connections on `port`; gives `answer` and closes, or, without one, holds the connection."""
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_answer, args=(connection, answer), daemon=True).start()


def _answer(connection: socket.socket, answer: bytes | None) -> None:
    with connection:
        connection.recv(65536)
        if answer:
            connection.sendall(answer)
        else:
            time.sleep(600)


threading.Thread(target=serve, args=(7001, None), daemon=True).start()
serve(7002, HALF)
