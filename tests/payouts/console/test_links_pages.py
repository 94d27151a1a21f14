"""The console's page of linked accounts: cases to look at, proposed by one person, decided by another."""

from __future__ import annotations

from django.urls import reverse

from contributors.models import Contributor, ContributorLink, LinkEnd
from contributors.operations import links
from contributors.queries.links import linked_accounts
from payouts.operations import banks
from tests.worlds.browser import LogIn, words_of
from tests.worlds.world import ADDRESS, World

IBAN = "GB33BUKB20201555555555"
LINKS = reverse("payouts:links")


def paid_to(world: World, iban: str = IBAN) -> Contributor:
    contributor = world.contributor(outcome=None, country="BR")
    banks.record_bank_details(
        contributor=contributor, holder_name="A", iban=iban, address=ADDRESS, by=world.owner, at=world.at
    )
    return contributor


def test_from_a_suspicion_to_a_link_and_to_its_end(world: World, log_in: LogIn) -> None:
    one, other = paid_to(world), paid_to(world)
    finder, decider = log_in(world.compliance), log_in(world._user("colleague", "compliance"))
    page = finder.get(LINKS)
    assert "GB … 5555" in words_of(page)
    address = f"{reverse('payouts:propose_link')}?accounts={one.public_id},{other.public_id}"
    assert address in page.content.decode()
    form = finder.get(address).context["form"]
    assert form.initial["accounts"].splitlines() == [f"{each.display_name}, {each.public_id}" for each in (one, other)]
    answer = finder.post(address, {"accounts": form.initial["accounts"], "reason": "One bank account."}, follow=True)
    assert "Somebody else approves" in words_of(answer)
    link = ContributorLink.objects.get()
    decide = reverse("people:proposal", args=["link", link.pk])
    assert decide in finder.get(LINKS).content.decode()
    own = finder.get(decide)
    assert "Withdraw" in words_of(own)
    assert 'value="approve"' not in own.content.decode()
    assert finder.post(decide, {"decision": "approve"}).status_code == 409
    assert "One bank account." in words_of(decider.get(decide))
    assert "count as one from now on" in words_of(decider.post(decide, {"decision": "approve"}, follow=True))
    assert set(linked_accounts(world.at.replace(year=world.at.year + 1))) == {one.pk, other.pk}
    end = reverse("payouts:end_link", args=[link.public_id])
    assert end in decider.get(LINKS).content.decode()
    decider.post(end, {"reason": "Twins."})
    decide = reverse("people:proposal", args=["link_end", LinkEnd.objects.get().pk])
    assert decide in finder.get(LINKS).content.decode()
    assert "count apart again" in words_of(finder.post(decide, {"decision": "approve"}, follow=True))
    assert linked_accounts(world.at.replace(year=world.at.year + 1)) == {}
    assert "Twins." in words_of(finder.get(LINKS))


def test_different_people_leave_the_list(world: World, log_in: LogIn) -> None:
    one, other = paid_to(world), paid_to(world)
    client = log_in(world.compliance)
    address = reverse("payouts:dismiss_suspicion")
    said = {"accounts": f"{one.public_id}\n{other.public_id}", "reason": "A couple."}
    assert "different people" in words_of(client.post(address, said, follow=True))
    assert "No two accounts share" in words_of(client.get(LINKS))


def test_an_account_that_nobody_has_and_a_name_that_two_have_are_refused_in_words(world: World, log_in: LogIn) -> None:
    one, other = paid_to(world), paid_to(world)
    Contributor.objects.filter(pk=other.pk).update(display_name=one.display_name)
    client, address = log_in(world.compliance), reverse("payouts:propose_link")
    for lines, words in (
        ("Nobody of that name", "No account is called “Nobody of that name”."),
        (one.display_name, "Several accounts are called"),
        (str(one.public_id), "A link joins 2 to 100 accounts"),
        (f"{one.public_id}\n{one.public_id}", "each named once"),
    ):
        answer = client.post(address, {"accounts": lines, "reason": "So."})
        assert answer.status_code == 422
        assert words in words_of(answer)
    assert not ContributorLink.objects.exists()


def test_an_auditor_reads_and_is_offered_nothing(world: World, log_in: LogIn) -> None:
    one, other = paid_to(world), paid_to(world)
    links.propose_link(contributors=[one, other], reason="One bank.", by=world.compliance, at=world.at)
    client = log_in(world._user("auditor", "auditor"))
    page = client.get(LINKS)
    assert "One bank." in words_of(page)
    for name in ("propose_link", "dismiss_suspicion"):
        assert reverse(f"payouts:{name}") not in page.content.decode()
        assert client.get(reverse(f"payouts:{name}")).status_code == 403
