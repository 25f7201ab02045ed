"""Holds the port, and gives it to the server, which has no network of its own: `python -m model_server.door`

The server's container sees no network device. It asks here, by a socket in a folder that both share, for the open port;
what it gets is that and nothing else. As long as this runs the port is open: while a server is replaced, requests wait.
"""

import os
import socket
import time

PORT = 8080  # in the container
SOCKET = "/door/socket"
WAITING = 1024  # connections that may wait until they are taken


def get() -> socket.socket:
    """Return the open port; what the server calls. Wait for it: both are started at once."""
    with socket.socket(socket.AF_UNIX) as asking:
        while asking.connect_ex(SOCKET):
            time.sleep(0.02)
        _, descriptors, _, _ = socket.recv_fds(asking, 1, 1)
    return socket.socket(fileno=descriptors[0])


def main() -> None:
    port = socket.create_server(("0.0.0.0", PORT), backlog=WAITING)
    if os.path.lexists(SOCKET):
        os.unlink(SOCKET)  # noqa: PTH108
    with socket.socket(socket.AF_UNIX) as giving:
        giving.bind(SOCKET)
        giving.listen()
        while True:
            asking, _ = giving.accept()
            with asking:
                socket.send_fds(asking, [b"1"], [port.fileno()])


if __name__ == "__main__":
    main()
