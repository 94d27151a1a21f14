"""Unchanged programs of others report to the real web server: the LiteLLM proxy, and the exporter of OpenTelemetry.

The proxy's configuration is the one that docs/start/gateways.md shows.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from attribution.models import Generation, WaitingReport
from attribution.operations import model_names
from tests.attribution.conftest import committed, indexed_database, trained
from tests.faults.test_worker_killed import adopt_plan, running_worker
from tests.web_server import free_port, kill_session, running_web
from tests.worlds.programme import Programme
from tests.worlds.trained import Committed

__all__ = ["committed", "indexed_database", "trained"]

ROOT = Path(__file__).resolve().parent.parent.parent.parent
PROXY_KEY = "sk-only-for-the-tests-on-loopback-0123456789"
LINES_MAX, FIRST_RECEIPT_SECONDS_MAX = 8, 300


@pytest.fixture(scope="session")
def litellm() -> Path:
    """The real proxy, installed in an environment of its own."""
    subprocess.run([ROOT / "tests" / "gateways.sh"], check=True, timeout=600)
    return ROOT / ".cache" / "gateways" / "bin" / "litellm"


def documented() -> str:
    """The lines that the page tells an operator of LiteLLM to add."""
    page = (ROOT / "docs" / "start" / "gateways.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    return str(block)


def call(url: str, body: Any = None, key: str = "") -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
        read = answer.read()
        return json.loads(read) if answer.headers.get_content_type() == "application/json" else read


@contextlib.contextmanager
def running_proxy(litellm: Path, directory: Path, web: str, key: str, log_format: str) -> Iterator[str]:
    added = documented().replace("https://tributary.example", web).replace("trib_...", key)
    config = yaml.safe_load(added)
    config["callback_settings"]["tributary"]["log_format"] = log_format
    config["model_list"] = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{name}", "api_key": "none", "mock_response": "The union is strong."},
        }
        for name in ("house-1", "unheard-of")
    ]
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    port, log = free_port(), directory / "proxy.log"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "LITELLM_MASTER_KEY": PROXY_KEY,
        # Nothing outside this machine is asked.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "DEFAULT_FLUSH_INTERVAL_SECONDS": "1",
    }
    command = [str(litellm), "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        proxy = subprocess.Popen(
            command, cwd=directory, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(f"{address}/health/liveliness"), log, seconds_max=240)
        yield address
    finally:
        kill_session(proxy)


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=5):
        return True
    return False


def wait_until(met: Callable[[], bool], log: Path, *, seconds_max: float) -> None:
    deadline = time.monotonic() + seconds_max
    while not met():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)


@pytest.fixture
def web(committed: Committed, tmp_path: Path) -> Iterator[tuple[Programme, str]]:
    """The real web server, which knows the model's names, and the service that reports."""
    programme = committed.programme
    for pattern in ("openai/house-1", "house-1"):
        model_names.name_model(
            service=programme.service,
            kind="exact",
            pattern=pattern,
            model_version=programme.model_version,
            at=programme.at,
        )
    with running_web(committed.environment, log=tmp_path / "web.log") as port:
        yield programme, f"http://127.0.0.1:{port}"


# --- LiteLLM --------------------------------------------------------------------------------------------------------
def test_the_page_asks_for_eight_lines_at_most() -> None:
    assert len(documented().splitlines()) <= LINES_MAX


@pytest.mark.timeout(900)
def test_an_unchanged_litellm_proxy_gets_a_receipt_within_minutes(
    web: tuple[Programme, str], committed: Committed, litellm: Path, tmp_path: Path
) -> None:
    programme, address = web
    adopt_plan(committed)
    started = time.monotonic()
    with (
        running_worker(committed, tmp_path / "worker.log"),
        running_proxy(litellm, tmp_path, address, programme.key, "json_array") as proxy,
    ):
        asked = {"model": "house-1", "messages": [{"role": "user", "content": "Fellow citizens"}]}
        call(f"{proxy}/v1/chat/completions", asked, PROXY_KEY)
        call(f"{proxy}/v1/chat/completions", {**asked, "stream": True}, PROXY_KEY)
        call(f"{proxy}/v1/completions", {"model": "house-1", "prompt": "Fellow citizens"}, PROXY_KEY)
        call(f"{proxy}/v1/chat/completions", {**asked, "model": "unheard-of"}, PROXY_KEY)
        log = tmp_path / "proxy.log"
        wait_until(lambda: Generation.objects.count() >= 3 and WaitingReport.objects.exists(), log, seconds_max=120)
        rows = list(Generation.objects.all())

        def receipt() -> Any:
            return call(f"{address}/api/v1/generations/{rows[0].pk}", key=programme.key)

        wait_until(lambda: receipt()["state"] == "accrued", tmp_path / "worker.log", seconds_max=200)
        seconds = time.monotonic() - started
        found = receipt()
    assert {(row.prompt_text, row.output_text) for row in rows} == {("Fellow citizens", "The union is strong.")}
    assert {row.model_version for row in rows} == {programme.model_version}
    assert {row.gross for row in rows} == {None}
    assert WaitingReport.objects.get().model_name == "openai/unheard-of"
    assert found["shares"]
    assert seconds < FIRST_RECEIPT_SECONDS_MAX


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("log_format", ["ndjson", "single"])
def test_the_other_formats_of_the_proxy_arrive_too(
    web: tuple[Programme, str], litellm: Path, tmp_path: Path, log_format: str
) -> None:
    programme, address = web
    with running_proxy(litellm, tmp_path, address, programme.key, log_format) as proxy:
        asked = {"model": "house-1", "messages": [{"role": "user", "content": "Fellow citizens"}]}
        for _ in range(3):
            call(f"{proxy}/v1/chat/completions", asked, PROXY_KEY)
        wait_until(lambda: Generation.objects.count() == 3, tmp_path / "proxy.log", seconds_max=120)


# --- OpenTelemetry ----------------------------------------------------------------------------------------------------
MESSAGES = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "house-1",
    "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Fellow citizens"}]}]),
    "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": "peace"}]}]),
}
NUMBERED = {
    "gen_ai.request.model": "house-1",
    "gen_ai.prompt.0.content": "Fellow citizens",
    "gen_ai.completion.0.content": "peace",
}
OPENINFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.model_name": "house-1",
    "llm.input_messages.0.message.content": "Fellow citizens",
    "llm.output_messages.0.message.content": "peace",
}


class JsonExporter(SpanExporter):
    """The SDK's own encoding of spans, sent as OTLP's JSON: its exporter for Python has protobuf alone."""

    def __init__(self, endpoint: str, key: str) -> None:
        self.endpoint, self.key = endpoint, key

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        body = MessageToDict(encode_spans(spans))
        for resource in body["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    for name in {"traceId", "spanId", "parentSpanId"} & span.keys():
                        # OTLP differs from protobuf's JSON here.
                        span[name] = base64.b64decode(span[name]).hex()
        return SpanExportResult.SUCCESS if call(self.endpoint, body, self.key) == {} else SpanExportResult.FAILURE


@pytest.mark.parametrize("encoding", ["protobuf", "protobuf, gzip", "protobuf, deflate", "json"])
def test_the_real_exporter_of_opentelemetry_reports_each_dialect(web: tuple[Programme, str], encoding: str) -> None:
    programme, address = web
    endpoint = f"{address}/api/v1/otlp/v1/traces"
    exporter: SpanExporter = JsonExporter(endpoint, programme.key)
    if encoding != "json":
        packing = Compression(encoding.partition(", ")[2] or "none")
        headers = {"authorization": f"Bearer {programme.key}"}
        exporter = OTLPSpanExporter(endpoint, headers=headers, timeout=30, compression=packing)
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("a service")
    for attributes in (MESSAGES, NUMBERED, OPENINFERENCE, {"http.request.method": "GET"}):
        with tracer.start_as_current_span("chat house-1", attributes=attributes):
            pass
    provider.shutdown()
    rows = list(Generation.objects.values_list("prompt_text", "output_text"))
    assert rows == [("Fellow citizens", "peace")] * 3
