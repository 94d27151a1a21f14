"""Model versions of the service: registered, listed, retired, superseded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from tributary.errors import InvalidInput
from tributary.transport import Transport

PATH = "/api/v1/model-versions"


def path_of(name: str, *parts: str) -> str:
    """Return the address of a model version. Raises InvalidInput for an empty name."""
    if not name:
        raise InvalidInput("the name of a model version is needed", field="name")
    return "/".join([PATH, quote(name, safe=":/"), *parts])


class ModelVersions:
    """`client.model_versions`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def register(
        self,
        *,
        name: str,
        adapter: str,
        factory: str,
        purpose: str,
        trained_at: datetime,
        upload: str | None = None,
        sha256: str | None = None,
        training_started_at: datetime | None = None,
        base_model: str | None = None,
        licence: str | None = None,
        config: Mapping[str, Any] | None = None,
        also_traced: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Register a model version; the server loads its model at once. The same again is answered the same.

        The checkpoint is a completed `upload` or the `sha256` of a directory in the store; neither only for the
        factory `pushed`. `purpose` is the use that the training was, by the names of a consent. `also_traced` names
        `embedding` and `norm`: layers that an index traces beside the usual ones. Raises ProblemError.
        """
        checkpoint = {"upload": upload} if upload else {"sha256": sha256} if sha256 else None
        body: dict[str, Any] = {
            "name": name,
            "adapter": adapter,
            "factory": factory,
            "purpose": purpose,
            "trained_at": _moment(trained_at, "trained_at"),
            "checkpoint": checkpoint,
        }
        if training_started_at is not None:
            body["training_started_at"] = _moment(training_started_at, "training_started_at")
        optional = {"base_model": base_model, "licence": licence, "config": None if config is None else dict(config)}
        body.update({key: value for key, value in optional.items() if value is not None})
        body.update({"also_traced": list(also_traced)} if also_traced else {})
        registered: dict[str, Any] = self._transport.post(PATH, body)
        return registered

    def get(self, name: str) -> dict[str, Any]:
        """Read a model version with its manifest and index. Raises ProblemError."""
        found: dict[str, Any] = self._transport.get(path_of(name))
        return found

    def list(self) -> Iterator[dict[str, Any]]:
        """Yield the service's model versions, newest first. Raises ProblemError."""
        return self._transport.pages(PATH)

    def retire(self, name: str) -> dict[str, Any]:
        """Take no new generations of a version. Raises ProblemError."""
        retired: dict[str, Any] = self._transport.post(path_of(name, "retire"), None)
        return retired

    def supersede(self, name: str, *, by: str) -> dict[str, Any]:
        """Retire a version in favour of another, which needs its manifest. Raises ProblemError."""
        superseded: dict[str, Any] = self._transport.post(path_of(name, "supersede"), {"by": by})
        return superseded


def _moment(value: datetime, name: str) -> str:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidInput("a datetime with a time zone is needed", field=name)
    return value.isoformat()
