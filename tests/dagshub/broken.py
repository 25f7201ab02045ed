"""Servers that no proxy can imitate: one never answers a request, one breaks off its answer."""

import socket
import threading
import time

HALF = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"model_versions": [{"na'


def serve(port: int, answer: bytes | None) -> None:
    """Take connections on `port`: send `answer` and close, or, without one, hold the connection."""
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
