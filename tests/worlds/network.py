"""A company's network: its certificate authority, a proxy process, and servers with its certificates."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.forward_proxy import _relay as relay


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """A certificate authority of its own; `file` holds its certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "company-ca.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("Company CA")
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        made = self._builder(self._name, self._key).add_extension(constraints, critical=True)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = made.add_extension(usage, critical=True)
        self.file.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )

    def server(self, host: str) -> ssl.SSLContext:
        """The TLS of a server with a certificate for a host."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        made = self._builder(_name("server"), key).add_extension(names, critical=False)
        path = self.folder / f"{host}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(private + made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


@dataclass
class Proxy:
    url: str
    log: Path

    @property
    def asked(self) -> list[str]:
        """The requests that the proxy got, oldest first: method, target, login."""
        return self.log.read_text().splitlines() if self.log.exists() else []


@contextlib.contextmanager
def forward_proxy(folder: Path) -> Iterator[Proxy]:
    log = folder / "proxy.log"
    command = [sys.executable, "-m", "tests.forward_proxy", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Proxy(f"http://clerk:s3cret@127.0.0.1:{int(process.stdout.readline())}", log)
        finally:
            process.terminate()


@contextlib.contextmanager
def _serving(handler: type[socketserver.BaseRequestHandler], address: str) -> Iterator[int]:
    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that refuses the certificate ends the handshake, which is no fault of the server."""

    with Server((address, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def tls_front(tls: ssl.SSLContext, backend: str, address: str = "127.0.0.1") -> Iterator[int]:
    """Terminate TLS in front of an HTTP server; yields the port."""
    parts = urlsplit(backend)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with (
                tls.wrap_socket(self.request, server_side=True) as here,
                socket.create_connection((str(parts.hostname), parts.port or 80)) as there,
            ):
                relay(here, there)

    with _serving(Handler, address) as port:
        yield port


@dataclass
class MailServer:
    port: int
    got: list[str] = field(default_factory=list)


@contextlib.contextmanager
def mail_server(tls: ssl.SSLContext) -> Iterator[MailServer]:
    """An SMTP server with TLS from the first byte, which keeps each message."""
    got: list[str] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with tls.wrap_socket(self.request, server_side=True) as here, here.makefile("rwb") as talk:

                def say(line: str) -> None:
                    talk.write(f"{line}\r\n".encode())
                    talk.flush()

                say("220 mail.test ESMTP")
                while line := talk.readline().decode().strip():
                    word = line[:4].upper()
                    if word == "DATA":
                        say("354 go on")
                        got.append(b"".join(iter(talk.readline, b".\r\n")).decode())
                    if word == "QUIT":
                        say("221 bye")
                        return
                    say("250 fine")

    with _serving(Handler, "127.0.0.1") as port:
        yield MailServer(port, got)
