"""A model service reports over HTTP, as a stranger would from the quick start, and reads the receipt."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import requests
from django.utils import timezone

from tests.journeys.conftest import Site


def test_a_reported_generation_becomes_a_receipt(site: Site) -> None:
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {site.programme.key}"
    occurred_at = (timezone.now() - timedelta(minutes=1)).isoformat()
    good = site.programme.generation("journey-1", occurred_at=occurred_at)
    bad = site.programme.generation("journey-2", occurred_at=occurred_at, model_version="nobody-1")
    answer = session.post(f"{site.url}/api/v1/generations", json={"generations": [good, bad]}, timeout=30)
    assert answer.status_code == 207, answer.text
    first, second = answer.json()["results"]
    assert first["status"] == 201
    assert second["status"] == 422
    assert second["problem"]["type"] == "/problems/unknown-model-version"

    again = session.post(f"{site.url}/api/v1/generations", json={"generations": [good]}, timeout=30).json()["results"]
    assert (again[0]["status"], again[0]["id"]) == (200, first["id"])

    # The workers attribute it, the sweep accrues it; nobody is asked to wait in the request.
    deadline = time.monotonic() + 150
    receipt: dict[str, Any] = {"state": "received"}
    while receipt["state"] != "accrued":
        assert time.monotonic() < deadline, receipt
        time.sleep(0.5)
        receipt = session.get(f"{site.url}/api/v1/generations/{first['id']}", timeout=30).json()
    shares = sum(share["ppb"] for share in receipt["shares"])
    assert shares + receipt["unattributed_ppb"] == 1_000_000_000
    assert receipt["entry"]["hash"]


def test_an_unknown_key_is_told_so_and_nothing_more(site: Site) -> None:
    answer = requests.post(
        f"{site.url}/api/v1/generations",
        json={"generations": [site.programme.generation()]},
        headers={"Authorization": "Bearer trib_nobody_nothing"},
        timeout=30,
    )
    assert answer.status_code == 401
    assert answer.headers["Content-Type"] == "application/problem+json"
