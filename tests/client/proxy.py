"""A TCP proxy that breaks connections in ways that networks do."""

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """Passes bytes on. `swallow`: so many answers are received from the server, and not passed
    on: the connection ends instead. `cut_after`: how many bytes of an answer pass before it does.
    """

    port: int  # of the server
    swallow: int = 0
    cut_after: list[int] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.port)) as server:
            up = threading.Thread(target=_pass_on, args=(client, server), daemon=True)
            up.start()
            self._answer(server, client)
            for end in (client, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            up.join()

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        allowed = self.cut_after.pop(0) if self.cut_after else None
        with suppress(OSError):
            while data := server.recv(65_536):
                if self.swallow:
                    self.swallow -= 1
                    return
                if allowed is not None:
                    data, allowed = data[:allowed], allowed - len(data)
                client.sendall(data)
                if allowed is not None and allowed <= 0:
                    return


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
