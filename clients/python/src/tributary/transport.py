"""One HTTP client for every call: the key, time limits, repeated attempts, and problems as exceptions."""

from __future__ import annotations

import json as jsonlib
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import httpx

from tributary.backoff import Backoff, seconds_of
from tributary.errors import InvalidInput, ProblemError, Unreachable

VERSION = "0.1.0"
ATTEMPTS_MAX = 5
# A call that somebody waits for gives up rather than sleep longer than this in one go.
WAIT_SECONDS_MAX = 60.0
BUSY = frozenset({429, 503})
"""Statuses that say the request was not carried out, so that any request may be repeated."""
FAILED = frozenset({500, 502, 504})
"""Statuses after which a request may have been carried out: repeated only where repeating is safe."""
PAGE = 200


@dataclass(frozen=True)
class Answer:
    """A response with its body."""

    status: int
    headers: Mapping[str, str]
    content: bytes = field(repr=False)

    def json(self) -> Any:
        """Parse the body. Raises ProblemError for a body that is no JSON."""
        try:
            return jsonlib.loads(self.content)
        except ValueError:
            raise ProblemError.of(self.status, self.content, kind=self.headers.get("content-type", "")) from None


Content = Callable[[], Iterable[bytes]]
"""A body that is made anew for every attempt."""


class Transport:
    """Sends requests to one installation with one key. Safe to share between threads."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout_seconds: float = 60.0,
        attempts_max: int = ATTEMPTS_MAX,
        backoff: Backoff | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise InvalidInput(f"{url!r} is no address such as https://tributary.example.org", field="url")
        if not key or not key.isascii() or any(character.isspace() for character in key):
            raise InvalidInput("give the service key, as trib_..., without blanks", field="key")
        self.url = url.rstrip("/")
        self._attempts_max = attempts_max
        self._backoff = backoff or Backoff()
        self._client = httpx.Client(
            headers={
                "Authorization": f"Bearer {key}",
                "Accept": "application/json, application/problem+json, */*;q=0.1",
                "User-Agent": f"tributary-client/{VERSION} python/{platform.python_version()}",
            },
            timeout=httpx.Timeout(timeout_seconds, connect=min(10.0, timeout_seconds)),
            follow_redirects=False,
        )

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, **params: Any) -> Any:
        """GET as JSON. Parameters that are None are left away."""
        return self.call("GET", path, params=params).json()

    def post(self, path: str, body: Any, *, is_repeatable: bool = True) -> Any:
        """POST JSON. `is_repeatable` tells that the same request again changes nothing more."""
        return self.call("POST", path, json=body, is_repeatable=is_repeatable).json()

    def pages(self, path: str, **params: Any) -> Iterator[Any]:
        """Yield the results of every page of a list."""
        answer = self.get(path, limit=PAGE, **params)
        while True:
            yield from answer["results"]
            following = answer.get("next")
            if not following:
                return
            answer = self.follow(following)

    def follow(self, address: str) -> Any:
        """GET a page by the address that another page named. Raises Unreachable for one of another server."""
        return self.call("GET", self._own(address)).json()

    def _own(self, address: str) -> str:
        """Check that the next page lies on this installation: no other server may get the key."""
        if address.startswith("/"):
            return address
        ours, theirs = urlsplit(self.url), urlsplit(address)
        if theirs.netloc != ours.netloc:
            raise Unreachable(f"The list goes on at {theirs.netloc}, not at {ours.netloc}: check SITE_URL there.")
        return f"{theirs.path}?{theirs.query}"

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        content: bytes | Content | None = None,
        headers: Mapping[str, str] | None = None,
        sink: BinaryIO | None = None,
        is_repeatable: bool = True,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """Send a request until it is answered. `sink` takes the body of a success in place of memory.

        Raises ProblemError for a refusal and Unreachable where no answer came.
        """
        failures = 0
        while True:
            retry_after, failure = 0.0, None
            try:
                answer = self.once(method, path, params=params, json=json, content=content, headers=headers, sink=sink)
            except Unreachable as error:
                failure = error
                is_lost = not isinstance(error.__cause__, (httpx.ConnectError, httpx.ConnectTimeout))
                if is_lost and not is_repeatable:
                    raise
            else:
                if answer.status < 300:
                    return answer
                may_repeat = answer.status in BUSY or (answer.status in FAILED and is_repeatable)
                retry_after = seconds_of(answer.headers.get("retry-after"))
                if not may_repeat or retry_after > WAIT_SECONDS_MAX:
                    raise self._problem(answer)
            failures += 1
            if failures >= self._attempts_max:
                raise failure or self._problem(answer)
            time.sleep(min(self._backoff.seconds(failures, retry_after=retry_after), WAIT_SECONDS_MAX))

    def _problem(self, answer: Answer) -> ProblemError:
        if 300 <= answer.status < 400:
            target = answer.headers.get("location", "another address")
            return ProblemError(answer.status, {"detail": f"{self.url} leads to {target}: use that address."})
        return ProblemError.of(answer.status, answer.content, kind=answer.headers.get("content-type", ""))

    def once(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        content: bytes | Content | None = None,
        headers: Mapping[str, str] | None = None,
        sink: BinaryIO | None = None,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """Send a request one time and return the answer, a refusal too. Raises Unreachable."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        body = content() if callable(content) else content
        timeout = self._client.timeout if timeout_seconds is None else httpx.Timeout(timeout_seconds, connect=10.0)
        try:
            with self._client.stream(
                method,
                self.url + path,
                params=given or None,
                json=json,
                content=body,
                headers=headers,
                timeout=timeout,
            ) as response:
                if sink is None or response.status_code >= 300:
                    return Answer(response.status_code, response.headers, response.read())
                sink.seek(0)
                sink.truncate()
                for block in response.iter_bytes():
                    sink.write(block)
                return Answer(response.status_code, response.headers, b"")
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"{self.url} did not answer: {reason}") from error
