"""The pages of docs/start: their steps are whole, and (full) a stranger's first day goes through all of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.first_day import contributor, finance, operator, team
from tests.first_day.browser import Page, UnableToGoOn, totp_code
from tests.first_day.day import DOCS
from tests.first_day.documents import Shell, Step, read_steps
from tests.first_day.installation import ROOT

ACTS = {**operator.ACTS, **contributor.ACTS, **team.ACTS, **finance.ACTS}
PAGES = ("operator", "contributor", "model-team")


def test_every_act_of_a_page_is_known_and_every_act_is_on_a_page() -> None:
    steps = [step for name in PAGES for step in read_steps(DOCS / f"{name}.md")]
    assert {step.hand for step in steps if step.hand} == set(ACTS)
    assert sum(1 for step in steps if step.code) > 30


@pytest.mark.parametrize("name", PAGES)
def test_every_word_in_capitals_of_a_block_is_given_or_kept(name: str) -> None:
    known = {"SERVICE_KEY", "TRAINING_STARTED_AT", "TRAINED_AT", "OCCURRED_AT", "MANDATE_ID"}
    for step in read_steps(DOCS / f"{name}.md"):
        assert set(re.findall(r"(?<![$\w])[A-Z]+_[A-Z_]+\b", step.code)) <= known, step
        known |= {word for word, _ in step.keeps}


def test_a_block_keeps_its_variables_and_a_part_of_what_it_prints(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n## One\n\n```sh\nNAME='a b'\n```\n\n<!-- keep THE_ID: results.0.id -->\n```sh\n"
        'printf \'{"results": [{"id": "x-1"}]}\'\n```\n\n```\nfalse\n```\n\n<!-- later -->\n## Two\n\n```sh\n'
        'echo "$NAME" THE_ID\n```\n'
    )
    first, second, third = read_steps(page)
    assert (first.heading, third.heading, third.part) == ("One", "Two", 1)
    shell = Shell(tmp_path, {"PATH": "/usr/bin:/bin"})
    shell.run(page, first)
    shell.run(page, second)
    assert shell.run(page, third) == "a b x-1\n"


def test_a_block_that_fails_ends_the_page_with_its_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    step = Step("One", 7, language="sh", code="echo before\nfalse\necho after\n")
    with pytest.raises(UnableToGoOn, match=r"(?s)page.md, line 7, ended with 1.*before"):
        Shell(tmp_path, {"PATH": "/usr/bin:/bin"}).run(page, step)
    unkept = Step("One", 9, language="sh", code="echo nothing\n", keeps=(("THE_ID", "id"),))
    with pytest.raises(UnableToGoOn, match="no id in: nothing"):
        Shell(tmp_path, {"PATH": "/usr/bin:/bin"}).run(page, unkept)


def test_a_form_is_filled_in_as_the_page_holds_it() -> None:
    source = (
        '<main><form method="post" action="/go"><input type="hidden" name="token" value="1">'
        '<select name="kind"><option value="a">First</option><option value="b" selected>Second</option></select>'
        '<input type="checkbox" name="use" value="x" id="u"><label for="u">A use</label>'
        '<textarea name="note">\nold</textarea><button name="step" value="2"><i></i> Send 3</button></form>'
        '<a href="/next">Go on</a></main>'
    )
    page = Page("http://site/here", 200, source.encode(), "text/html")
    form, pressed = page.form("Send*")
    assert (form.action, pressed) == ("http://site/go", ("step", "2"))
    assert form.values == [("token", "1"), ("kind", "b"), ("note", "old")]
    assert form.choices["kind"]["First"] == "a"
    assert form.choices["use"]["A use"] == "x"
    assert page.link("Go on") == "http://site/next"
    with pytest.raises(UnableToGoOn, match="no button “Save”"):
        page.form("Save")


def test_a_code_is_that_of_the_standard() -> None:
    # RFC 6238, appendix B, cut to six digits.
    assert totp_code("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", at=1_111_111_109) == "081804"


@pytest.mark.full
@pytest.mark.timeout(1_800)
def test_the_first_day_of_a_stranger(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.first_day", "--quick", "--json", str(figures)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1_700)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    told = json.loads(figures.read_text())
    assert told["contributors"] == 30
    assert told["seconds_to_first_receipt"] < told["seconds"]["total"]
    for name in ("receipts", "drawn", "closed_receipts"):
        assert told[name]["generations"] == told[name]["paid_by_attribution"] > 0
