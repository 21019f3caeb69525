"""A real https server on localhost with a certificate of its own: for files and repositories."""

import http.server
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

NAME = "localhost"
GIT = "/usr/lib/git-core/git-http-backend"
Answer = Callable[["Request"], None]


class Request(http.server.BaseHTTPRequestHandler):
    """Each path is answered as the test says, /git/ by git itself."""

    server: "_Server"
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.asked.append(path)
        if path.startswith("/git/"):
            self._git()
        elif path in self.server.answers:
            self.server.answers[path](self)
        else:
            self.send_error(404)

    do_POST = do_GET  # noqa: N815 - the name that the library calls

    def give(self, data: bytes, *, length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def lead(self, url: str) -> None:
        self.send_response(302)
        self.send_header("Location", url)
        self.end_headers()

    def _git(self) -> None:
        asked = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.server.repositories),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": asked.path.removeprefix("/git"),
            "QUERY_STRING": asked.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type") or "",
            "CONTENT_LENGTH": str(length),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol") or "",
        }
        body = self.rfile.read(length)
        done = subprocess.run([GIT], input=body, env=environment, capture_output=True, check=True)
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(lines.pop("Status", "200").split()[0]))
        for name, value in (lines | {"Content-Length": str(len(rest))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(rest)

    def log_message(self, *words: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    answers: dict[str, Answer]
    asked: list[str]
    repositories: Path

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away."""


class Web:
    """``folder`` gets ca.pem, which proves it, and holds the repositories."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ca_file = folder / "ca.pem"
        self._server = _Server(("127.0.0.1", 0), Request)
        self._server.answers, self._server.asked = {}, []
        self._server.repositories = folder
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(_certificate(folder, self.ca_file))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.address = f"{NAME}:{self.port}"
        self.url = f"https://{self.address}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def answers(self) -> dict[str, Answer]:
        return self._server.answers

    @property
    def asked(self) -> list[str]:
        """The paths."""
        return self._server.asked

    def serve(self, path: str, data: bytes) -> str:
        """The URL of a file with this content."""
        self.answers[path] = lambda request: request.give(data)
        return f"{self.url}{path}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _certificate(folder: Path, ca_file: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    text = certificate.public_bytes(serialization.Encoding.PEM)
    ca_file.write_bytes(text)
    ca_file.chmod(0o644)
    pair = folder / "pair.pem"
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    pair.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain) + text)
    return pair


class Slow:
    """An answer that begins, and goes on when it is told to."""

    def __init__(self, first: bytes, rest: bytes) -> None:
        self._first, self._rest = first, rest
        self.begun = threading.Event()
        self.go = threading.Event()

    def __call__(self, request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(self._first + self._rest)))
        request.end_headers()
        request.wfile.write(self._first)
        request.wfile.flush()
        self.begun.set()
        self.go.wait(120)
        request.wfile.write(self._rest)


def cut(request: Request) -> None:
    """Half of what was announced, and then nothing."""
    request.give(b"half", length=8)
    request.wfile.flush()
    request.connection.shutdown(socket.SHUT_RDWR)


def repository(folder: Path) -> list[str]:
    """Make a bare repository there with two commits on one branch; returns them."""
    work = folder.with_suffix(".work")
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.example")
    subprocess.run([*git, "init", "--quiet", "-b", "main", str(work)], check=True)
    found = []
    for number in ("1", "2"):
        (work / "number").write_text(number)
        (work / "more").mkdir(exist_ok=True)
        (work / "more" / f"file{number}").write_text("x")
        for words in (("add", "."), ("commit", "--quiet", "-m", number)):
            subprocess.run([*git, "-C", str(work), *words], check=True)
        said = subprocess.run([*git, "-C", str(work), "rev-parse", "HEAD"], check=True,
                              capture_output=True, text=True)  # fmt: skip
        found.append(said.stdout.strip())
    subprocess.run([*git, "clone", "--quiet", "--bare", str(work), str(folder)], check=True)
    return found
