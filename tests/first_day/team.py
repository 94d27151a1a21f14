"""The acts of the model team's page that are its own work: training, sampling, and models of its own making."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable

from tributary import Tributary

from tests.first_day import material
from tests.first_day.browser import UnableToGoOn
from tests.first_day.day import WAIT_SECONDS_MAX, Day
from tests.first_day.operator import TEAM


def model_team(day: Day) -> None:
    day.kept["OCCURRED_AT"] = day.calendar.occurred_at
    day.follow("model-team", day.team, ACTS)


def train_a_language_model(day: Day) -> None:
    (day.team / "base.txt").write_text(material.base_text(40_000))
    arguments = ["works", ".", "--base", "base.txt", "--occurred-at", day.calendar.occurred_at]
    arguments += ["--generations", str(day.sizes.generations)]
    day.program("-m", "tests.first_day.language", *arguments)


def note_first_receipt(day: Day) -> None:
    day.figures["seconds_to_first_receipt"] = round(time.monotonic() - day.started, 1)


def train_a_painter(day: Day) -> None:
    arguments = ["pictures", "--occurred-at", day.calendar.occurred_at, "--generations", str(day.sizes.generations)]
    day.program("-m", "tests.first_day.painting", *arguments, *["--quick"] * day.is_quick)


def write_with_the_black_box(day: Day) -> None:
    arguments = ["--occurred-at", day.calendar.occurred_at, "--generations", str(day.sizes.generations)]
    day.program("-m", "tests.first_day.blackbox", "write", "texts", *arguments)


def retrain_the_black_box(day: Day) -> None:
    day.program("-m", "tests.first_day.blackbox", "evaluate", "texts", "coalitions.json")


def read_all_receipts(day: Day) -> None:
    """Wait until every reported generation is accrued, and read the receipts through the client."""
    for name in ("receipts", "drawn", "closed-receipts"):
        numbers = [json.loads(line)["id"] for line in (day.team / f"{name}.jsonl").read_text().splitlines()]
        with Tributary(day.url, day.kept["SERVICE_KEY"]) as client:
            found = [client.receipts.wait(number, timeout_seconds=WAIT_SECONDS_MAX) for number in numbers]
        states = Counter(receipt["state"] for receipt in found)
        if set(states) != {"accrued"}:
            raise UnableToGoOn(f"Generations of {name} are {dict(states)}: {found[0]}")
        attributed = sum(1 for receipt in found if float(receipt["direct"]) > 0)
        day.figures[name.replace("-", "_")] = {"generations": len(found), "paid_by_attribution": attributed}


def record_a_mandate(day: Day) -> None:
    """Record the mandate of a society for the first contributor of the list of works."""
    staff = day.browser(TEAM)
    page = staff.get(staff.get("/console/services/").link("Acme"))
    given = {
        "organisation": "Society of Translators",
        "contributors": day.kept["CONTRIBUTOR_ID"],
        "uses": ["train_generative"],
        "evidence": "Drawer 7",
        "evidence_sha256": hashlib.sha256(b"the signed mandate").hexdigest(),
        "valid_from": f"{day.calendar.month_start:%Y-%m-%d %H:%M}",
    }
    page = staff.press(staff.get(page.link("Mandates*")), "Record", given, says="The mandate is recorded")
    found = re.search(r"<code>([0-9a-f-]{36})</code>", page.source)
    if found is None:
        raise UnableToGoOn(f"The page shows no id of the mandate: {page.main[:800]}")
    day.kept["MANDATE_ID"] = found[1]


ACTS: dict[str, Callable[[Day], None]] = {
    act.__name__: act
    for act in (
        model_team,
        train_a_language_model,
        note_first_receipt,
        train_a_painter,
        write_with_the_black_box,
        retrain_the_black_box,
        read_all_receipts,
        record_a_mandate,
    )
}
