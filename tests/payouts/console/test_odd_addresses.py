"""Any odd text in the address of a page gets an answer in words, and no crash."""

from __future__ import annotations

import pytest
from django.urls import NoReverseMatch, URLPattern, URLResolver, get_resolver, reverse

from tests.worlds.browser import LogIn, member_of
from tests.worlds.world import World

ODD = (
    "9" * 30, "²", "\ud800",
    *(pytest.param(odd, marks=pytest.mark.full) for odd in (
        "-1", "٣", "2026-13", "0000-00", "9999-99", "x" * 3000, "'\"<>", "1e9", "2026-11-31", "99999-01-01", "0",
        "1,,2", "00000000-0000-0000-0000-000000000000", "9223372036854775807",
    )),
)  # fmt: skip
NAMES = (
    "page", "q", "state", "month", "period", "before", "after", "entry", "account", "as_of", "format", "accounts",
    "months", "reason", "owner", "find", "kind", "service", "model", "work", "dataset", "target", "currency", "actor",
    "action", "subject", "since", "until", "run", "name",
)  # fmt: skip


def addresses(prefix: str) -> list[str]:
    """Every page under a prefix that takes nothing in its path."""
    found: set[str] = set()

    def walk(patterns: list[URLPattern | URLResolver], namespace: str) -> None:
        for one in patterns:
            if isinstance(one, URLResolver):
                walk(one.url_patterns, f"{namespace}{one.namespace}:" if one.namespace else namespace)
            elif one.name and not one.pattern.regex.groups:
                try:
                    address = reverse(f"{namespace}{one.name}")
                except NoReverseMatch:
                    # Something stands in the path above it.
                    continue
                if address.startswith(prefix):
                    found.add(address)

    walk(get_resolver().url_patterns, "")
    return sorted(found)


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("exclude", {"contributor": ["²", "9" * 30]}),
        ("build", {"currency": "USD", "cut_off": "0001-01-01"}),
        ("threshold", {"minimum_minor": ","}),
        ("threshold", {"minimum_minor": "USD"}),
        (
            "propose_policy",
            {"minimum_minor": ",", "maturity_days": 1, "bank_change_days": 1, "probation_days": 0, "reason": "x"},
        ),
    ],
)
def test_an_odd_entry_is_refused_on_its_page(world: World, log_in: LogIn, name: str, sent: dict[str, object]) -> None:
    world.contributor(5000)
    world.contributor(6000)
    run = world.in_review() if name == "exclude" else None
    place = [run.public_id] if run else ["USD"] if name == "propose_policy" else []
    client = log_in(world.owner if name == "threshold" else world.maker)
    response = client.post(reverse(f"payouts:{name}", args=place), sent)
    assert 400 <= response.status_code < 500


@pytest.mark.parametrize("odd", ODD)
def test_no_page_crashes_on_an_odd_address(world: World, log_in: LogIn, odd: str) -> None:
    contributor = world.contributor(1000)
    everything = world._user("all", "finance_maker", "finance_checker", "compliance", "auditor", "admin")
    query = {name: odd.encode("utf-8", "surrogatepass") for name in NAMES}
    crashed, looked_at = {}, 0
    for client, prefix in ((log_in(everything), "/console/"), (log_in(member_of(contributor)), "/portal/")):
        for address in addresses(prefix):
            if "/tables/" in address:
                continue
            try:
                assert client.get(address, query).status_code < 500
            except Exception as error:
                crashed[address] = repr(error)
            looked_at += 1
    assert crashed == {}
    assert looked_at > 40
