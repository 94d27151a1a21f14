"""Consent: the arithmetic of statements in time, and that none is ever changed."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import Error, IntegrityError, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from contributors.models import Consent, Contributor, Dataset, Work
from contributors.operations.consents import (
    UnableToRecordConsent,
    grant_consent,
    grant_consents,
    withdraw_consent,
    withdraw_consents,
)
from contributors.operations.works import register_works
from contributors.queries import consents
from tests.worlds import people

pytestmark = pytest.mark.django_db
TRAIN = "train_generative"


@pytest.fixture
def essay(essays: Dataset, at: datetime) -> Work:
    return register_works(dataset=essays, works=[people.text_work(1)], at=at)[0]


def say(
    of: Contributor, at: datetime, value: str = "allow", start: int = 0, end: int | None = None, **target: Any
) -> Consent:
    """One statement that begins and ends so many hours after `at`."""
    return grant_consent(
        contributor=of,
        scope=TRAIN,
        value=value,
        valid_from=at + timedelta(hours=start),
        valid_to=None if end is None else at + timedelta(hours=end),
        by=None,
        source="test",
        at=at,
        **target,
    )


def in_force(work: Work, at: datetime, hours: float = 0) -> Consent | None:
    return consents.consent_in_force(work=work, scope=TRAIN, at=at + timedelta(hours=hours))


def test_where_nothing_is_said_the_answer_is_no(essay: Work, at: datetime) -> None:
    assert in_force(essay, at) is None


def test_a_permission_speaks_of_its_own_scope_only(ada: Contributor, essay: Work, at: datetime) -> None:
    said = say(ada, at)
    assert in_force(essay, at) == said
    assert consents.consent_in_force(work=essay, scope="fine_tune", at=at) is None


def test_a_permission_holds_from_its_beginning_up_to_its_end(ada: Contributor, essay: Work, at: datetime) -> None:
    say(ada, at, start=1, end=3)
    assert [in_force(essay, at, hours) is not None for hours in (0.99, 1, 2.99, 3)] == [False, True, True, False]


def test_the_narrowest_permission_is_the_proof(ada: Contributor, essays: Dataset, essay: Work, at: datetime) -> None:
    say(ada, at)
    of_the_dataset = say(ada, at, dataset=essays)
    assert in_force(essay, at) == of_the_dataset
    of_the_work = say(ada, at, work=essay)
    assert in_force(essay, at) == of_the_work


@pytest.mark.parametrize("denied", ["all", "dataset", "work"])
def test_one_refusal_is_enough_wherever_it_stands(
    denied: str, ada: Contributor, essays: Dataset, essay: Work, at: datetime
) -> None:
    targets: dict[str, dict[str, Any]] = {"all": {}, "dataset": {"dataset": essays}, "work": {"work": essay}}
    for name, target in targets.items():
        say(ada, at, "deny" if name == denied else "allow", **target)
    assert in_force(essay, at) is None


def test_a_later_statement_replaces_an_earlier_one_of_the_same_target(
    ada: Contributor, essay: Work, at: datetime
) -> None:
    say(ada, at)
    withdraw_consent(contributor=ada, scope=TRAIN, valid_from=at + timedelta(hours=2), by=None, at=at)
    again = say(ada, at, start=4)
    assert in_force(essay, at, 1) is not None
    assert in_force(essay, at, 2) is None
    assert in_force(essay, at, 4) == again


def test_of_two_statements_that_begin_together_the_last_recorded_holds(
    ada: Contributor, essay: Work, at: datetime
) -> None:
    say(ada, at, "deny", start=1)
    assert in_force(essay, at, 1) is None
    say(ada, at, start=1)
    assert in_force(essay, at, 1) is not None


def test_a_permission_dated_back_does_not_undo_a_refusal(ada: Contributor, essay: Work, at: datetime) -> None:
    say(ada, at, "deny")
    say(ada, at, start=-100)
    assert in_force(essay, at) is None
    assert in_force(essay, at, -50) is not None


def test_a_permission_is_not_dated_back_over_days_on_which_it_was_refused(
    ada: Contributor, essay: Work, at: datetime
) -> None:
    """Otherwise a contributor could refuse all month long and allow it afterwards, for the pools at the month's end."""
    say(ada, at - timedelta(hours=48), "deny")
    with pytest.raises(UnableToRecordConsent, match="a permission after a refusal begins now or later"):
        say(ada, at, start=-24)
    with pytest.raises(UnableToRecordConsent, match="begins now or later"):
        say(ada, at, start=-48)
    say(ada, at)
    assert in_force(essay, at) is not None
    assert in_force(essay, at, -1) is None
    # No statement about the work alone stands in the way, and the wider refusal wins all the same.
    say(ada, at, start=-24, work=essay)
    assert in_force(essay, at, -24) is None


def test_a_work_registered_later_is_covered_by_what_was_said_of_its_place(
    ada: Contributor, essays: Dataset, at: datetime
) -> None:
    said = say(ada, at, dataset=essays)
    (work,) = register_works(dataset=essays, works=[people.text_work(9)], at=at + timedelta(days=9))
    assert in_force(work, at) == said


def test_nobody_speaks_for_anothers_works(ada: Contributor, ben: Contributor, essay: Work, at: datetime) -> None:
    say(ben, at)
    assert in_force(essay, at) is None
    for target in ({"work": essay}, {"dataset": essay.dataset}):
        with pytest.raises(UnableToRecordConsent, match="does not belong to Ben"):
            say(ben, at, **target)


def test_the_database_refuses_a_statement_about_anothers_works(
    ada: Contributor, ben: Contributor, essay: Work, at: datetime
) -> None:
    said = say(ada, at)
    forged = {field.attname: getattr(said, field.attname) for field in Consent._meta.concrete_fields}
    forged |= {"id": None, "public_id": essay.public_id, "contributor_id": ben.pk}
    for target in ({"work_id": essay.pk}, {"dataset_id": essay.dataset_id}):
        with pytest.raises(IntegrityError, match="another contributor"), transaction.atomic():
            Consent.objects.create(**forged | target)


def test_a_statement_is_never_changed_nor_deleted(ada: Contributor, at: datetime) -> None:
    say(ada, at)
    with pytest.raises(Error, match="Cannot update"), transaction.atomic():
        Consent.objects.update(value="deny")
    with pytest.raises(Error, match="delete"), transaction.atomic():
        Consent.objects.all().delete()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"scope": "everything"}, "no use “everything”"),
        ({"value": "perhaps"}, "allow or deny"),
        ({"valid_to": timedelta(0)}, "end after it begins"),
        ({"value": "deny", "valid_from": timedelta(seconds=-1)}, "cannot be dated back"),
        ({"source": ""}, "comes from"),
        ({"source": "x" * 41}, "comes from"),
    ],
)
def test_a_statement_is_refused_with_the_reason(
    changed: dict[str, Any], said: str, ada: Contributor, at: datetime
) -> None:
    given: dict[str, Any] = {"scope": TRAIN, "valid_from": timedelta(0), "source": "test"} | changed
    for name in ("valid_from", "valid_to"):
        if name in given:
            given[name] = at + given[name]
    with pytest.raises(UnableToRecordConsent, match=said):
        grant_consent(contributor=ada, by=None, at=at, **given)
    assert not Consent.objects.exists()


def test_a_statement_speaks_of_one_target(ada: Contributor, essay: Work, at: datetime) -> None:
    with pytest.raises(UnableToRecordConsent, match="not of both"):
        say(ada, at, work=essay, dataset=essay.dataset)


def test_several_scopes_are_stated_at_once_or_not_at_all(ada: Contributor, at: datetime) -> None:
    common: dict[str, Any] = {"contributor": ada, "valid_from": at, "by": None, "at": at}
    assert len(grant_consents(scopes=["search", "ai_index", "search"], source="test", **common)) == 2
    with pytest.raises(UnableToRecordConsent, match="at least one"):
        grant_consents(scopes=[], source="test", **common)
    withdraw_consents(scopes=["search"], **common)
    with pytest.raises(UnableToRecordConsent, match="“Search results” is already refused"):
        withdraw_consents(scopes=["ai_index", "search"], **common)
    assert Consent.objects.count() == 3


def test_the_evidence_is_the_digest_of_what_was_said(ada: Contributor, at: datetime) -> None:
    said = say(ada, at, end=5)
    canonical = (
        f'{{"contributor":"{ada.public_id}","dataset":null,"recorded_at":"{at.isoformat()}","scope":"{TRAIN}",'
        f'"source":"test","valid_from":"{at.isoformat()}","valid_to":"{(at + timedelta(hours=5)).isoformat()}",'
        f'"value":"allow","work":null}}'
    )
    assert bytes(said.evidence_sha256) == hashlib.sha256(canonical.encode()).digest()


def test_the_consent_of_many_works_is_one_query(
    ada: Contributor, essays: Dataset, at: datetime, django_assert_num_queries: Any
) -> None:
    works = register_works(dataset=essays, works=[people.text_work(i) for i in range(20)], at=at)
    say(ada, at)
    say(ada, at, "deny", work=works[3])
    with django_assert_num_queries(1):
        allowed = consents.consents_in_force(work_ids=[work.pk for work in works], scope=TRAIN, at=at)
    assert set(allowed) == {work.pk for work in works} - {works[3].pk}
    assert consents.consents_in_force(work_ids=[], scope=TRAIN, at=at) == {}


def test_the_matrix_shows_what_holds_and_what_comes(
    ada: Contributor, essays: Dataset, essay: Work, at: datetime
) -> None:
    current, coming = say(ada, at), say(ada, at, "deny", start=5)
    say(ada, at, "deny", start=9)
    say(ada, at, work=essay)
    expired = say(ada, at, start=-9, end=-1, dataset=essays)
    rows = {row.dataset: {state.scope: state for state in row.states} for row in consents.consent_matrix(ada, at)}
    assert set(rows) == {None, essays}
    assert (rows[None][TRAIN].current, rows[None][TRAIN].next) == (current, coming)
    assert rows[None]["search"].current is None
    assert rows[essays][TRAIN].current is None
    assert expired in consents.consent_history(ada)


STATEMENT = st.tuples(
    st.sampled_from(["all", "dataset", "work"]),
    st.sampled_from(["allow", "deny"]),
    st.integers(0, 8),
    st.one_of(st.none(), st.integers(1, 5)),
)


@settings(max_examples=40, deadline=None)
@given(statements=st.lists(STATEMENT, max_size=7), hours=st.integers(0, 10))
def test_the_query_agrees_with_the_rule_read_slowly(
    statements: list[tuple[str, str, int, int | None]], hours: int
) -> None:
    """Of each target the statement that begins last, until it ends; any refusal wins; silence is a no."""
    at = datetime.fromisoformat("2026-11-20T12:00:00+00:00")
    with transaction.atomic():
        ada = people.contributor("Hypo", at)
        dataset = people.dataset(ada, at)
        (work,) = register_works(dataset=dataset, works=[people.text_work(77)], at=at)
        targets: dict[str, dict[str, Any]] = {"all": {}, "dataset": {"dataset": dataset}, "work": {"work": work}}
        for target, value, start, length in statements:
            say(ada, at, value, start, None if length is None else start + length, **targets[target])
        holding = []
        for target in targets:
            begun = [s for s in statements if s[0] == target and s[2] <= hours]
            if begun:
                last = max(begun, key=lambda s: s[2])
                last = [s for s in begun if s[2] == last[2]][-1]
                if last[3] is None or last[2] + last[3] > hours:
                    holding.append(last[1])
        expected = "deny" not in holding and "allow" in holding
        assert (in_force(work, at, hours) is not None) == expected
        transaction.set_rollback(True)
