"""The effects of a change of details on payouts: whether it waits for a decision, and its consequences."""

from __future__ import annotations

from contributors.models import Contributor
from contributors.queries.details import Details, read_details
from ledger.money import asset
from ledger.queries import balances
from payouts.models import Payout, PayoutAccount, Rail, TaxProfile
from payouts.queries import payees
from payouts.queries.policies import terms_in_force
from payouts.rails import choice
from people.presentation import amounts
from people.presentation.countries import COUNTRIES

# The name of each detail on pages.
LABELS = {
    "kind": "Kind",
    "legal_name": "Legal name",
    "display_name": "Shown name",
    "country": "Country",
    "currency": "Currency",
}
# Those on which a payment rests. The name beside the works is the contributor's own affair.
MOVE_MONEY = frozenset({"kind", "legal_name", "country", "currency"})
# Those that an account at Stripe, a tax form and a bank account are tied to.
IDENTITY = frozenset({"kind", "legal_name", "country"})
# An account at Stripe is opened for one country and one kind, for ever.
FIXED_AT_STRIPE = frozenset({"kind", "country"})


def changed(before: Details, after: Details) -> frozenset[str]:
    """Name the details that differ."""
    old, new = before.as_json(), after.as_json()
    return frozenset(name for name in old if old[name] != new[name])


def shown(name: str, value: str) -> str:
    """Return a detail as a page shows it."""
    return COUNTRIES.get(value, value) if name == "country" else value.capitalize() if name == "kind" else value


def rests_on_details(contributor: Contributor) -> bool:
    """Tell whether payout details, a tax form or a payment rest on the present details."""
    return (
        PayoutAccount.objects.filter(contributor=contributor).exists()
        or TaxProfile.objects.filter(contributor=contributor).exists()
        or Payout.objects.filter(contributor=contributor).exists()
    )


def waits_for_decision(contributor: Contributor, after: Details) -> bool:
    """Tell whether another person has to approve the change, because money rests on the present details."""
    return bool(changed(read_details(contributor), after) & MOVE_MONEY) and rests_on_details(contributor)


def consequences(contributor: Contributor, after: Details) -> list[str]:
    """List in words the effects of a change, in the order in which they matter."""
    before = read_details(contributor)
    names = changed(before, after)
    account = PayoutAccount.objects.filter(contributor=contributor).first()
    found = []
    if waits_for_decision(contributor, after):
        found.append("Somebody else approves it first. Until then everything stays as it is.")
    if "legal_name" in names:
        found.append(f"New papers carry {after.legal_name}. Earlier papers keep {before.legal_name}.")
    if account is not None:
        found += _of_account(account, names, after)
    form = payees.tax_form_of(contributor)
    if form is not None and form.form != TaxProfile.Form.NONE and names & IDENTITY:
        found.append(f"The {form.get_form_display()} ends. A new tax form is needed.")
    if "currency" in names:
        found.append(f"Amounts in {before.currency} stay owed, and are paid, in {before.currency}.")
        if account is not None and account.minimum_minor:
            least = amounts.text_of_minor(account.minimum_minor, asset(before.currency))
            found.append(f"The own minimum payout of {least} ends. Set a new one in {after.currency}.")
    return found


def _of_account(account: PayoutAccount, names: frozenset[str], after: Details) -> list[str]:
    found = []
    if account.provider_account_id and names & FIXED_AT_STRIPE:
        found.append("The account at Stripe ends: Stripe ties it to one country and kind. The old one stays on record.")
    rail = choice.rail_of_country(after.country) if "country" in names else Rail(account.rail)
    if rail != account.rail:
        found.append(f"Payments come by {choice.RAIL_NAMES[rail]} from then on.")
    if account.provider_account_id and names & FIXED_AT_STRIPE and rail == Rail.STRIPE_TRANSFER:
        found.append("A new account at Stripe is needed before the next payment.")
    if account.bank_fingerprint and names & IDENTITY:
        earned = {own.asset.code for own in balances.accounts_of(account.contributor_id)}
        days = max(terms_in_force(currency).bank_change_days for currency in earned | {after.currency})
        if days:
            found.append(f"No payment goes out for {days} days after the approval.")
    return found
