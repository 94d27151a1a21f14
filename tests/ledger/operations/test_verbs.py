"""Business verbs: each has a page, two people, exactly the lines of its table, and no way around either."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils.timezone import now

from contributors.operations.people import add_member
from ledger import journal
from ledger.journal import AccountKey, UnableToPost
from ledger.models import Entry, Line, VerbProposal
from ledger.operations import programme as programme_operations
from ledger.operations import verb_proposals, verbs
from ledger.queries.invariants import check_all
from people.actor import UnableToAct
from people.models import STAFF_ROLES, AuditEvent
from people.operations.proposals import UnableToDecide, approve
from people.queries.proposals import kind_of
from tests.worlds.manual import post_by_hand
from tests.worlds.pages import sure, text_of
from tests.worlds.programme import AT, Programme

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[3]
DOLLAR = 10**9
DIME = DOLLAR // 10
LINCOLN, GRANT, LUCJA, PRESS = "Abraham Lincoln", "Ulysses S. Grant", "Łucja Żółć", "Gutenberg Press"
CAPITAL = {"currency": "USD", "amount": "1000.00", "reference": "founding", "note": "as agreed"}
PAGE = "/console/transactions/"
Case = tuple[str, dict[str, str], list[tuple[str, str, str, int]]]


def cases(programme: Programme) -> list[Case]:
    """Verb, form and lines (kind, currency, owner, units; credit positive), in an order in which each can be posted."""
    lincoln, grant, lucja = (f"contributor:{c.pk}" for c in programme.contributors)
    press, work = f"service:{programme.services[0].pk}", programme.works_of(0)[0]
    dollars: list[tuple[str, dict[str, str], list[tuple[str, str, int]]]] = [
        ("capital", CAPITAL, [("bank", "", -1000 * DOLLAR), ("programme_equity", "", 1000 * DOLLAR)]),
        ("prefund_service", {"service": PRESS, "amount": "0.50", "reference": "wire 1"},
         [("bank", "", -5 * DIME), ("service_deposit", press, 5 * DIME)]),
        ("invoice_service", {"service": PRESS.upper(), "tax": "0.10", "jurisdiction": "de", "reference": "INV-1"},
         [("service_receivable", press, -16 * DIME), ("service_unbilled", press, 15 * DIME),
          ("tax_payable", "jurisdiction:DE/sales", DIME)]),
        ("apply_deposit", {"service": PRESS, "reference": "INV-1"},
         [("service_deposit", press, -5 * DIME), ("service_receivable", press, 5 * DIME)]),
        ("collect", {"service": str(programme.services[0].pk), "amount": "0.6", "reference": "wire 2"},
         [("bank", "", -6 * DIME), ("service_receivable", press, 6 * DIME)]),
        ("receive_unidentified", {"amount": "0.30", "reference": "wire 3"},
         [("bank", "", -3 * DIME), ("suspense_cash", "", 3 * DIME)]),
        ("match_cash", {"service": PRESS, "amount": "0.30", "reference": "wire 3"},
         [("suspense_cash", "", -3 * DIME), ("service_receivable", press, 3 * DIME)]),
        ("write_off_service", {"service": PRESS, "reference": "bankrupt"},
         [("programme_cost", "", -2 * DIME), ("service_receivable", press, 2 * DIME)]),
        ("remit_tax", {"jurisdiction": "DE", "tax_kind": "sales", "amount": "0.10", "reference": "2026 Q4"},
         [("tax_payable", "jurisdiction:DE/sales", -DIME), ("bank", "", DIME)]),
        ("sweep_stripe", {"amount": "100", "reference": "po_1"},
         [("bank", "", -100 * DOLLAR), ("stripe_balance", "", 100 * DOLLAR)]),
        ("absorb_deficit", {"contributor_id": LINCOLN, "amount": "3.00", "reference": "txn_1"},
         [("contributor_receivable", lincoln, -3 * DOLLAR), ("stripe_balance", "", 3 * DOLLAR)]),
        ("write_off_contributor", {"contributor_id": LINCOLN, "reference": "forgiven"},
         [("programme_cost", "", -3 * DOLLAR), ("contributor_receivable", lincoln, 3 * DOLLAR)]),
        ("mark_dormant", {"contributor_id": LUCJA, "reference": "2026"},
         [("contributor_payable", lucja, -100 * DOLLAR), ("unclaimed", lucja, 100 * DOLLAR)]),
        ("reclaim", {"contributor_id": LUCJA, "reference": "letter"},
         [("unclaimed", lucja, -100 * DOLLAR), ("contributor_payable", lucja, 100 * DOLLAR)]),
        ("mark_dormant", {"contributor_id": LUCJA, "reference": "2027"},
         [("contributor_payable", lucja, -100 * DOLLAR), ("unclaimed", lucja, 100 * DOLLAR)]),
        ("escheat", {"contributor_id": LUCJA, "reference": "state 1"},
         [("unclaimed", lucja, -100 * DOLLAR), ("bank", "", 100 * DOLLAR)]),
        ("find_owner", {"work_id": work.title, "contributor_id": GRANT, "reference": "claim 1"},
         [("suspense_unmatched", f"work:{work.pk}", -5 * DOLLAR), ("contributor_accrued", grant, 5 * DOLLAR)]),
        ("open_dispute", {"contributor_id": LINCOLN, "amount": "5", "payable": "yes", "reference": "case-7"},
         [("contributor_payable", lincoln, -5 * DOLLAR), ("on_hold", "dispute:case-7", 5 * DOLLAR)]),
        ("open_dispute", {"contributor_id": GRANT, "amount": "1", "payable": "no", "reference": "case-8"},
         [("contributor_accrued", grant, -DOLLAR), ("on_hold", "dispute:case-8", DOLLAR)]),
        ("decide_dispute", {"awards": f"{LINCOLN}: 2.00\n{GRANT}: 3.00", "reference": "case-7"},
         [("on_hold", "dispute:case-7", -5 * DOLLAR), ("contributor_payable", lincoln, 2 * DOLLAR),
          ("contributor_payable", grant, 3 * DOLLAR)]),
    ]  # fmt: skip
    exchanged = {"amount": "10.00", "into": "EUR", "rate": "0.9", "source": "ECB 2026-11-20", "currency": "USD"}
    both: list[Case] = [
        ("exchange_cash", {**exchanged, "reference": "fx 1"},
         [("stripe_balance", "USD", "", 10 * DOLLAR), ("fx_clearing", "USD", "", -10 * DOLLAR),
          ("stripe_balance", "EUR", "", -9 * DOLLAR), ("fx_clearing", "EUR", "", 9 * DOLLAR)]),
        ("exchange_debt", {**exchanged, "contributor_id": GRANT, "reference": "fx 2"},
         [("contributor_payable", "USD", grant, -10 * DOLLAR), ("fx_clearing", "USD", "", 10 * DOLLAR),
          ("contributor_payable", "EUR", grant, 9 * DOLLAR), ("fx_clearing", "EUR", "", -9 * DOLLAR)]),
    ]  # fmt: skip
    single = [(verb, {"currency": "USD", **form}, lines) for verb, form, lines in dollars]
    return [(v, form, [(kind, "USD", owner, u) for kind, owner, u in lines]) for v, form, lines in single] + both


@pytest.fixture
def funded(accrued: Programme) -> Programme:
    """A hundred dollars payable to each contributor, five for an unknown owner, and a thousand at Stripe."""
    payable = [AccountKey("contributor_payable", "USD", f"contributor:{c.pk}") for c in accrued.contributors]
    unmatched = AccountKey("suspense_unmatched", "USD", f"work:{accrued.works_of(0)[0].pk}")
    cost = AccountKey("programme_cost", "USD")
    lines = [(cost, -305 * DOLLAR), *((key, 100 * DOLLAR) for key in payable), (unmatched, 5 * DOLLAR)]
    post_by_hand(lines, AT)
    programme_operations.top_up_stripe(amount=1000 * DOLLAR, currency="USD", reference="tu_1", at=AT)
    return accrued


def posted_lines(entry: Entry) -> list[tuple[str, str, str, int]]:
    rows = Line.objects.filter(entry=entry).select_related("account__asset")
    return sorted((row.account.kind, row.account.asset.code, row.account.owner, row.amount) for row in rows)


def propose(programme: Programme, verb: str, form: dict[str, str]) -> VerbProposal:
    answer = sure(programme.staff_client("finance_maker"), f"{PAGE}new/{verb}/", form)
    assert answer.status_code == 302, (verb, text_of(answer.content))
    return VerbProposal.objects.latest("id")


def decide(programme: Programme, proposal: VerbProposal, decision: str, role: str = "finance_checker") -> str:
    """Send the decision; return the page that shows the result."""
    client = programme.staff_client(role)
    answer = client.post(kind_of(proposal).url(proposal), {"decision": decision}, follow=True)
    proposal.refresh_from_db()
    return text_of(answer.content)


def test_each_verb_is_proposed_on_its_page_and_another_person_posts_exactly_its_lines(funded: Programme) -> None:
    maker = funded.staff_client("finance_maker")
    chooser = text_of(maker.get(f"{PAGE}new/").content)
    told = cases(funded)
    assert {verb for verb, _, _ in told} == set(verbs.VERBS)
    for verb, form, lines in told:
        row = verbs.VERBS[verb]
        assert row.title in chooser
        assert row.checks in text_of(maker.get(f"{PAGE}new/{verb}/").content)
        before = Entry.objects.count()
        proposal = propose(funded, verb, form)
        assert Entry.objects.count() == before
        its = kind_of(proposal)
        shown = text_of(funded.staff_client("auditor").get(its.url(proposal)).content)
        assert PRESS in shown or "service" not in form
        for kind, currency, _owner, units in lines:
            assert kind.replace("_", " ").capitalize() in shown
            assert f"{currency} {abs(units) // DOLLAR:,}.{abs(units) % DOLLAR // (DIME // 10):02d}" in shown
        assert "posted as entry" in decide(funded, proposal, "approve"), verb
        assert proposal.entry is not None
        assert (proposal.state, proposal.entry.kind, proposal.entry.reference) == (
            "approved",
            row.kind,
            form["reference"],
        )
        assert posted_lines(proposal.entry) == sorted(lines), verb
        logged = AuditEvent.objects.filter(subject=its.subject(proposal)).order_by("sequence")
        assert [(event.action, event.actor) for event in logged] == [
            (f"propose_{its.key}", funded.staff["finance_maker"]),
            (f"approve_{its.key}", funded.staff["finance_checker"]),
        ]
    listed = text_of(funded.staff_client("auditor").get(PAGE).content)
    assert "Hand unclaimed money to the state" in listed
    assert Entry.objects.get(reference="fx 1").rule_version == "0.9 EUR/USD ECB 2026-11-20"
    assert {result.name: result.rows for result in check_all() if result.rows} == {}


def test_a_proposal_takes_a_second_person_with_the_role(funded: Programme) -> None:
    checker = funded.staff_client("finance_checker")
    assert sure(checker, f"{PAGE}new/capital/", CAPITAL).status_code == 302
    own = VerbProposal.objects.get()
    assert "so somebody else has to approve it" in text_of(checker.get(kind_of(own).url(own)).content)
    assert "You proposed this" in decide(funded, own, "approve")
    assert "takes the role finance_checker" in decide(funded, own, "approve", "finance_maker")
    assert "takes the role finance_checker" in decide(funded, own, "approve", "compliance")
    auditor = funded.staff_client("auditor")
    assert 'value="approve"' not in auditor.get(kind_of(own).url(own)).content.decode()
    assert auditor.post(kind_of(own).url(own), {"decision": "approve"}).status_code == 403
    assert auditor.get(f"{PAGE}new/").status_code == auditor.get(f"{PAGE}new/capital/").status_code == 403
    assert funded.client(0).get(PAGE).status_code == 403
    assert (own.state, Entry.objects.filter(kind="capital").count()) == ("proposed", 0)
    assert "Nothing was decided" in decide(funded, own, "maybe")


def test_compliance_proposes_and_approves_claims_and_no_other_verb(funded: Programme) -> None:
    client = funded.staff_client("compliance")
    page = text_of(client.get(f"{PAGE}new/").content)
    assert "Set a dormant balance aside" in page
    assert "Invoice a model service" not in page
    assert sure(client, f"{PAGE}new/capital/", CAPITAL).status_code == 403
    proposal = propose(funded, "mark_dormant", {"currency": "USD", "contributor_id": LUCJA, "reference": "2026"})
    assert "posted as entry" in decide(funded, proposal, "approve", "compliance")


def test_a_member_of_the_contributor_does_not_decide_about_it(funded: Programme) -> None:
    checker = funded.staff["finance_checker"]
    add_member(contributor=funded.contributors[2], user=checker, role="owner", at=AT)
    proposal = propose(funded, "mark_dormant", {"currency": "USD", "contributor_id": LUCJA, "reference": "2026"})
    assert "You act for Łucja Żółć" in decide(funded, proposal, "approve")
    assert proposal.state == "proposed"


def test_a_withdrawn_or_rejected_proposal_stays_on_record_and_frees_its_reference(funded: Programme) -> None:
    proposal = propose(funded, "capital", CAPITAL)
    again = sure(funded.staff_client("finance_maker"), f"{PAGE}new/capital/", CAPITAL)
    assert again.status_code == 422
    assert "proposed already" in text_of(again.content)
    assert "withdraw it instead" in decide(funded, proposal, "reject", "finance_maker")
    assert "stays on record" in decide(funded, proposal, "withdraw", "finance_maker")
    # A page that was opened before the decision.
    for decision in ("approve", "reject"):
        assert "It is withdrawn already, by finance_maker on" in decide(funded, proposal, decision)
    assert (proposal.state, proposal.entry_id) == ("withdrawn", None)
    other = propose(funded, "capital", CAPITAL)
    assert "stays on record" in decide(funded, other, "reject")
    assert other.state == "rejected"
    decide(funded, propose(funded, "capital", CAPITAL), "approve")
    used = sure(funded.staff_client("finance_maker"), f"{PAGE}new/capital/", CAPITAL)
    assert used.status_code == 422
    assert "“founding” was posted already as entry" in text_of(used.content)
    assert 'value="1000.00"' in used.content.decode()
    assert Entry.objects.filter(kind="capital").count() == 1


BAD: list[tuple[str, dict[str, str], str]] = [
    ("capital", {"amount": "much"}, "is no number, such as 1250.50"),
    ("capital", {"amount": "0"}, "An amount is above zero."),
    ("capital", {"amount": "-5"}, "An amount is above zero."),
    ("capital", {"amount": "0.0000000001"}, "has 10 decimals"),
    ("capital", {"amount": "9999999999999"}, "larger than the ledger can hold"),
    ("capital", {"amount": ""}, "This field is required."),
    ("capital", {"reference": " "}, "This field is required."),
    ("capital", {"currency": "XXX"}, "Select a valid choice"),
    ("collect", {"service": "Nobody's"}, "There is no model service “Nobody's”."),
    ("collect", {"service": PRESS}, "Gutenberg Press owes USD 0.00, less than the received sum."),
    ("collect", {"service": PRESS, "amount": "0.001"}, "is not payable"),
    ("apply_deposit", {"service": PRESS}, "Gutenberg Press has no deposit to apply to an invoice in USD."),
    ("invoice_service", {"service": "Orator Labs"}, "Orator Labs has less than a minor unit of USD unbilled."),
    ("invoice_service", {"service": PRESS, "tax": "0.1"}, "Tax names the jurisdiction"),
    ("invoice_service", {"service": PRESS, "tax": "0.001", "jurisdiction": "DE"}, "whole amount of minor units"),
    ("remit_tax", {"jurisdiction": "ZZ", "tax_kind": "sales"}, "“ZZ” is not an ISO 3166 code"),
    ("write_off_contributor", {"contributor_id": "99999"}, "There is no contributor “99999”."),
    ("write_off_contributor", {"contributor_id": LINCOLN}, "There is nothing on contributor_receivable USD"),
    ("escheat", {"contributor_id": GRANT}, "There is nothing on unclaimed USD"),
    ("find_owner", {"contributor_id": GRANT, "work_id": "Ulysses"}, "There is no work “Ulysses”."),
    ("open_dispute", {"contributor_id": GRANT, "payable": "yes", "reference": "7"}, "fall below its minimum"),
    ("open_dispute", {"contributor_id": GRANT, "payable": "yes", "reference": "Grant v. Lee"}, "A dispute is named by"),
    ("open_dispute", {"contributor_id": GRANT, "payable": "yes", "reference": "split-1"}, "decided on its own page"),
    ("decide_dispute", {"awards": "Grant", "reference": "7"}, "“Grant” is no name and amount"),
    ("decide_dispute", {"awards": f"{GRANT}: 1", "reference": "7"}, "The awards sum to USD 1.00; the dispute holds"),
    ("decide_dispute", {"awards": f"{GRANT}: 1\n{GRANT}: 2", "reference": "7"}, "stands in two lines"),
    ("exchange_cash", {"into": "USD", "rate": "0.9", "source": "ECB"}, "into USD is no exchange."),
    ("exchange_cash", {"into": "EUR", "rate": "x", "source": "ECB"}, "“x” is no number"),
    ("exchange_cash", {"into": "KRW", "rate": "1.384", "source": "ECB"}, "has two readings. Type 1384 or 1.3840."),
    ("exchange_cash", {"into": "EUR", "rate": "1e3", "source": "ECB"}, "“1e3” is no number"),
    ("exchange_cash", {"into": "EUR", "rate": "0", "source": "ECB"}, "is no exchange."),
    ("exchange_debt", {"contributor_id": GRANT, "into": "EUR", "rate": "1", "source": "ECB"}, "below its minimum"),
]


def test_facts_that_make_no_entry_are_refused_on_the_form_and_no_row_is_written(funded: Programme) -> None:
    client = funded.staff_client("finance_maker")
    before = Entry.objects.count()
    for verb, changes, words in BAD:
        answer = sure(client, f"{PAGE}new/{verb}/", {**CAPITAL, **changes})
        assert answer.status_code == 422, (verb, changes)
        assert words in text_of(answer.content), (verb, changes, text_of(answer.content))
    assert client.get(f"{PAGE}new/print_money/").status_code == 404
    assert client.get("/console/proposals/transaction/99/").status_code == 404
    assert (VerbProposal.objects.count(), Entry.objects.count()) == (0, before)


@pytest.mark.parametrize(
    ("verb", "facts", "named"),
    [
        ("print_money", {}, "no transaction 'print_money'"),
        ("capital", {"amount": 0}, "above zero"),
        ("capital", {"amount": 2**63}, "larger than the ledger can hold"),
        ("capital", {"amount": 1, "currency": "XXX"}, "no currency 'XXX'"),
        ("capital", {"amount": 1, "reference": "x" * 121}, "1 to 120 characters"),
        ("capital", {"amount": 1, "note": "x" * 301}, "at most 300 characters"),
        ("collect", {"amount": 1}, "say which service"),
        ("reclaim", {"contributor_id": 10**9}, "There is no contributor"),
        ("find_owner", {"contributor_id": None, "work_id": 10**9}, "say which contributor"),
        ("decide_dispute", {"awards": {1: -5}}, "above zero"),
    ],
)
def test_the_operation_refuses_what_a_form_would(
    programme: Programme, verb: str, facts: dict[str, Any], named: str
) -> None:
    arguments = {"currency": "USD", "reference": "r", **facts}
    with pytest.raises(Exception, match=named) as refused:
        verb_proposals.propose_verb(verb=verb, by=programme.staff["finance_maker"], at=AT, **arguments)
    assert getattr(refused.value, "problem", "")
    assert not VerbProposal.objects.exists()


def test_a_proposal_whose_balance_is_gone_is_refused_at_approval_and_stands(funded: Programme) -> None:
    dormant = propose(funded, "mark_dormant", {"currency": "USD", "contributor_id": LUCJA, "reference": "2026"})
    invoice = propose(funded, "invoice_service", {"currency": "USD", "service": PRESS, "reference": "INV-1"})
    who = funded.contributors[2].pk
    verbs.post_verb(verb="open_dispute", reference="c", contributor_id=who, currency="USD", amount=DOLLAR, at=now())
    verbs.post_verb(verb="invoice_service", service=funded.services[0], currency="USD", reference="INV-0", at=now())
    assert "fall below its minimum" in decide(funded, dormant, "approve")
    assert "fall below its minimum" in decide(funded, invoice, "approve")
    assert (dormant.state, invoice.state) == ("proposed", "proposed")
    # The balance came back: the same proposal is approved.
    verbs.post_verb(verb="decide_dispute", reference="c", currency="USD", awards={who: DOLLAR}, at=now())
    assert "posted as entry" in decide(funded, dormant, "approve")


def test_a_closed_month_refuses_an_approval_and_the_proposal_stands(funded: Programme) -> None:
    proposal = propose(funded, "capital", CAPITAL)
    funded.close()
    with pytest.raises(UnableToPost) as refused:
        approve(proposal, by=funded.staff["finance_checker"], at=datetime(2026, 10, 20, tzinfo=UTC))
    assert refused.value.problem == "period-not-open"
    proposal.refresh_from_db()
    assert proposal.state == "proposed"


def test_an_invoice_that_was_proposed_is_posted_as_proposed_though_more_is_unbilled_by_then(funded: Programme) -> None:
    proposal = propose(funded, "invoice_service", {"currency": "USD", "service": PRESS, "reference": "INV-1"})
    funded.attribute(funded.generate(3))
    funded.accrue()
    decide(funded, proposal, "approve")
    unbilled = AccountKey("service_unbilled", "USD", f"service:{funded.services[0].pk}")
    assert (proposal.state, journal.owed(unbilled)) == ("approved", 3 * DIME // 2)


def test_the_database_holds_a_proposal_to_its_lines_and_to_two_people(funded: Programme) -> None:
    proposal = propose(funded, "capital", CAPITAL)
    maker, checker = funded.staff["finance_maker"].pk, funded.staff["finance_checker"].pk
    other = verbs.post_verb(verb="capital", reference="other", amount=5, currency="USD", at=now()).entry_id
    decided = "UPDATE ledger_verbproposal SET state = 'approved', decided_at = now(), decided_by_id = "
    for statement, refusal in (
        ("UPDATE ledger_verbproposal SET lines = '[]'", "stands as it was proposed"),
        ("UPDATE ledger_verbproposal SET reference = 'x'", "stands as it was proposed"),
        ("DELETE FROM ledger_verbproposal", "never changed"),
        (f"{decided} {checker}", "names_its_entry"),
        (f"{decided} {checker}, entry_id = {other}", "not the transaction as it was proposed"),
    ):
        with pytest.raises(DatabaseError, match=refusal), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    posted = verbs.post_verb(verb="capital", reference="founding", amount=1000 * DOLLAR, currency="USD", at=now())
    with (
        pytest.raises(DatabaseError, match="approved_by_somebody_else"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(f"{decided} {maker}, entry_id = {posted.entry_id}")
    with pytest.raises(UnableToDecide, match="was posted meanwhile as entry"):
        approve(proposal, by=funded.staff["finance_checker"], at=now())


# --- every posting operation has a door ---------------------------------------------------------------------------
# Posts in the name of one other operation, for which a page, command or task calls the other.
THROUGH = {"reserve_payout": "reserve_payouts", "restate_generation": "propose_generation_restatement"}


def _calls(tree: ast.AST) -> set[str]:
    """List every name that code mentions: a direct call, a call through its module, or a name handed on."""
    nodes = list(ast.walk(tree))
    return {n.id for n in nodes if isinstance(n, ast.Name)} | {n.attr for n in nodes if isinstance(n, ast.Attribute)}


def test_every_operation_that_posts_is_reached_by_a_page_the_api_a_command_or_a_task() -> None:
    functions: dict[str, set[str]] = {}
    for path in (ROOT / "ledger" / "operations").glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                key = node.name if not node.name.startswith("_") else f"{path.stem}.{node.name}"
                functions[key] = {f"{path.stem}.{name}" if name.startswith("_") else name for name in _calls(node)}
            elif isinstance(node, ast.Assign) and "KIND" in ast.unparse(node.targets[0]):
                # The registry calls the effect of a kind of proposal; each app registers its kinds by these names.
                effects = {f"{path.stem}.{name}" for name in _calls(node)}
                functions[ast.unparse(node.targets[0])] = functions.get(ast.unparse(node.targets[0]), set()) | effects
    posting = {"post", "post_many", "post_accruals", "reverse"}
    assert not posting & functions.keys()
    while more := {name for name, calls in functions.items() if calls & posting} - posting:
        posting |= more
    outside = [
        path
        for app in ("config", "people", "contributors", "attribution", "ledger", "payouts")
        for path in (ROOT / app).rglob("*.py")
        # The demo shows; it is no door.
        if "demo" not in path.parts and (ROOT / "ledger" / "operations") not in path.parents
    ]
    reached = set().union(*(_calls(ast.parse(path.read_text())) for path in outside)) & functions.keys()
    while more := set().union(*(functions[name] for name in reached)) & functions.keys() - reached:
        reached |= more
    reached |= {name for name, other in THROUGH.items() if other in reached}
    public = {name for name in posting & functions.keys() if re.fullmatch(r"[A-Za-z]\w*", name)}
    assert {"post_verb", "KIND", "CLAIM_KIND", "close_period"} <= public
    assert public - reached == set()


def test_a_row_of_the_table_names_accounts_and_roles_that_exist() -> None:
    for key, verb in verbs.VERBS.items():
        assert key == verb.key
        assert {verb.debit, verb.credit} <= journal.CHART.keys()
        assert set(verb.limits) <= {verb.debit, verb.credit}
        assert set(verb.approvers) <= set(verb.proposers) <= set(STAFF_ROLES)
        assert bool(verb.limits) == verb.amount.is_balance or key == "collect"


def test_the_proposer_needs_the_role(programme: Programme) -> None:
    with pytest.raises(UnableToAct, match="takes the role finance_maker or finance_checker"):
        verb_proposals.propose_verb(
            verb="capital", amount=1, currency="USD", reference="r", by=programme.staff["auditor"], at=AT
        )
