"""What finance staff type on the pages of the books, turned into arguments of operations."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django import forms
from django.db.models import QuerySet

from attribution.models import ModelService
from contributors.forms import DateInput
from contributors.models import Contributor
from ledger.contract_words import PER_CENT_PPB
from ledger.journal import CHART, AccountKey
from ledger.models.disputes import WORDS_MAX
from ledger.money import ASSETS, UnableToParseAmount, parse_amount
from ledger.operations.manual import BY_HAND, LINES_MAX


class AnswerDisputeForm(forms.Form):
    decision = forms.ChoiceField(
        choices=[
            ("declined", "Declined: the receipt stands"),
            ("upheld", "Upheld: the receipt is to be restated"),
        ],
        widget=forms.RadioSelect,
    )
    words = forms.CharField(
        label="Answer", max_length=WORDS_MAX, widget=forms.Textarea(attrs={"rows": 5}),
        help_text="The contributor reads it on the receipt. Say what you checked and what you found.",
    )  # fmt: skip


class DecideContestForm(forms.Form):
    decision = forms.ChoiceField(
        choices=[
            ("upheld", "Upheld: what was held goes to who claimed it"),
            ("declined", "Declined: it goes to whom the sheet names"),
        ],
        widget=forms.RadioSelect,
    )
    words = forms.CharField(
        label="Answer", max_length=1000, widget=forms.Textarea(attrs={"rows": 5}),
        help_text="Both co-authors read it. Say what you checked and what you found.",
    )  # fmt: skip


# --- contracts ----------------------------------------------------------------------------------------------------
class ContractForm(forms.Form):
    contributor = forms.CharField(max_length=200, help_text="The contributor's name as on their statements, or number.")
    title = forms.CharField(max_length=200, help_text="Such as “Agreement of 3 March 2026 on the collected essays”.")
    code = forms.SlugField(
        max_length=60, help_text="A short name that stands in the journal, such as essays-2026. It never changes."
    )

    def clean_contributor(self) -> Contributor:
        found: Contributor = _named(
            Contributor.objects.all(), "display_name", self.cleaned_data["contributor"], "contributor"
        )
        return found


def _named(rows: QuerySet[Any], field: str, text: str, what: str) -> Any:
    """The one row of a name or a number. Raises ValidationError for none, and for several of one name."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 19:
        found = list(rows.filter(pk=int(text)))
    else:
        found = list(rows.filter(**{f"{field}__iexact": text})[:2])
    if not found:
        raise forms.ValidationError(f"There is no {what} “{text}”.")
    if len(found) > 1:
        raise forms.ValidationError(f"Several are named “{text}”; give the number, which stands on the {what}'s page.")
    return found[0]


class PercentField(forms.DecimalField):
    """A percentage that cleans to parts of a billion."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=Decimal(0), max_value=Decimal(100), max_digits=10, decimal_places=7, **kwargs)

    def clean(self, value: Any) -> int:
        return int((super().clean(value) or Decimal(0)) * PER_CENT_PPB)


class TermsForm(forms.Form):
    """A version of a contract's terms. `terms()` is what the operation takes."""

    effective_from = forms.ChoiceField(label="From the month", help_text="Months before it keep their terms.")
    covers = forms.ChoiceField(
        label="What the contract covers",
        choices=[
            ("rest", "Everything that no other contract of the contributor covers, the floor pool included"),
            ("holders", "Only what is earned through the holders ticked below"),
            ("nothing", "Nothing (this ends the contract, or it only carries an advance)"),
        ],
        widget=forms.RadioSelect,
    )
    holders = forms.MultipleChoiceField(required=False, widget=forms.CheckboxSelectMultiple)
    guarantee = forms.CharField(
        required=False, max_length=40, help_text="The least that a month brings, such as 250.00; empty for none."
    )
    guarantee_currency = forms.ChoiceField(choices=[(code, code) for code in ASSETS])
    guarantee_payer = forms.ChoiceField(
        label="Guarantee paid by", help_text="A model service is billed for it with its next invoice."
    )
    recoup_order = forms.IntegerField(
        label="Place in the recoupment order", min_value=0, max_value=1000, initial=100,
        help_text="Advances are earned back in this order, lower first; in one place, the oldest first.",
    )  # fmt: skip
    recoup_group = forms.CharField(
        label="Cross-collateral group", required=False, max_length=60,
        help_text="Contracts of one group may earn back each other's advances.",
    )  # fmt: skip
    cross_recoup = forms.BooleanField(
        label="Other contracts of the group earn back this one's advances", required=False
    )
    reserve = PercentField(
        label="Reserve, per cent", required=False, help_text="Held back of what is left at each close; empty for none."
    )
    schedule = forms.CharField(
        label="Release of the reserve", required=False, max_length=200,
        help_text="Months after the close and per cent, such as “6: 50, 12: 50”. The parts sum to 100.",
    )  # fmt: skip
    note = forms.CharField(required=False, max_length=300)

    def __init__(
        self, *args: Any, months: Sequence[tuple[str, str]], holders: Sequence[tuple[str, str]],
        services: Sequence[tuple[str, str]], **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(*args, **kwargs)
        for name, choices in {
            "effective_from": months,
            "holders": holders,
            "guarantee_payer": [("programme", "The programme"), *services],
        }.items():
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = list(choices)

    def clean_schedule(self) -> list[tuple[int, int]]:
        parts = [part for part in self.cleaned_data["schedule"].split(",") if part.strip()]
        schedule = []
        for part in parts:
            months, _, percent = part.partition(":")
            try:
                ppb = Decimal(percent.strip().rstrip("%").strip()) * PER_CENT_PPB
                schedule.append((int(months), int(ppb)))
            except (ValueError, ArithmeticError):
                raise forms.ValidationError(f"“{part.strip()}” is not months and per cent, such as 6: 50.") from None
        return schedule

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("covers") == "holders" and not cleaned.get("holders"):
            self.add_error("holders", "Tick at least one holder.")
        if text := cleaned.get("guarantee", "").strip():
            try:
                cleaned["guarantee_units"] = parse_amount(text, cleaned["guarantee_currency"])
            except UnableToParseAmount as error:
                self.add_error("guarantee", str(error))
        return cleaned

    def terms(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        units = cleaned.get("guarantee_units", 0)
        payer = cleaned["guarantee_payer"]
        return {
            "covers_rest": cleaned["covers"] == "rest",
            "holder_ids": [int(holder) for holder in cleaned["holders"]] if cleaned["covers"] == "holders" else [],
            "guarantee": units,
            "guarantee_currency": cleaned["guarantee_currency"] if units else "",
            "guarantee_payer": "service" if units and payer != "programme" else "programme",
            "guarantee_service": ModelService.objects.get(pk=payer) if units and payer != "programme" else None,
            "recoup_order": cleaned["recoup_order"],
            "recoup_group": cleaned["recoup_group"].strip(),
            "cross_recoup": cleaned["cross_recoup"],
            "reserve_ppb": cleaned["reserve"],
            "release_months": [months for months, _ in cleaned["schedule"]] if cleaned["reserve"] else [],
            "release_ppb": [ppb for _, ppb in cleaned["schedule"]] if cleaned["reserve"] else [],
            "note": cleaned["note"].strip(),
        }


class AdvanceForm(forms.Form):
    """An advance under a contract. Cleans `amount` to units of the currency."""

    amount = forms.CharField(max_length=40, help_text="Such as 5000.00; a payout pays it, in whole cents.")
    currency = forms.ChoiceField(choices=[(code, code) for code in ASSETS])
    reason = forms.CharField(max_length=300, help_text="Why it is paid. Whoever grants it reads this.")
    reference = forms.CharField(max_length=200, help_text="What it rests on: a clause of the contract, a letter.")

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if text := cleaned.get("amount", "").strip():
            try:
                cleaned["amount"] = parse_amount(text, cleaned["currency"])
            except UnableToParseAmount as error:
                self.add_error("amount", str(error))
            except KeyError:
                pass
        return cleaned


# --- entries by hand ----------------------------------------------------------------------------------------------
class ManualEntryForm(forms.Form):
    reason = forms.CharField(max_length=300, help_text="Why no operation posts it. Whoever posts it reads this.")
    reference = forms.CharField(max_length=200, help_text="What it rests on: a letter, a ticket, the bank's reference.")
    currency = forms.ChoiceField(choices=[(code, code) for code in ASSETS])


class ManualLineForm(forms.Form):
    """One line of an entry by hand; an empty one is left out."""

    kind = forms.ChoiceField(
        label="Account", required=False, choices=[("", "–"), *((kind, kind.replace("_", " ")) for kind in BY_HAND)]
    )
    owner = forms.CharField(label="Whose", required=False, max_length=100)
    side = forms.ChoiceField(choices=[("debit", "Debit"), ("credit", "Credit")])
    amount = forms.CharField(required=False, max_length=40)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if bool(cleaned.get("kind")) != bool(cleaned.get("amount", "").strip()):
            self.add_error("amount" if cleaned.get("kind") else "kind", "A line has an account and an amount.")
        return cleaned

    def line(self, currency: str) -> tuple[AccountKey, int] | None:
        """The line, or None for one that was left empty. Raises ValidationError for an owner or amount that is none."""
        cleaned = self.cleaned_data
        if not cleaned["kind"]:
            return None
        kind, text = cleaned["kind"], cleaned["owner"].strip()
        word = CHART[kind].owner
        if bool(text) != bool(word):
            whose = f"Say whose it is: a {word}." if word else "This account is the programme's own; leave this empty."
            raise forms.ValidationError({"owner": whose})
        try:
            if word == "contributor":
                text = str(_named(Contributor.objects.all(), "display_name", text, word).pk)
            elif word == "service":
                text = str(_named(ModelService.objects.all(), "name", text, word).pk)
        except forms.ValidationError as error:
            raise forms.ValidationError({"owner": error.messages}) from error
        try:
            units = parse_amount(cleaned["amount"].strip(), currency)
        except UnableToParseAmount as error:
            raise forms.ValidationError({"amount": str(error)}) from error
        if units <= 0:
            raise forms.ValidationError({"amount": "An amount is above zero; the side says which way it goes."})
        owner = f"{word}:{text}" if word else ""
        return AccountKey(kind, currency, owner), units if cleaned["side"] == "credit" else -units


ManualLines = forms.formset_factory(ManualLineForm, extra=4, max_num=LINES_MAX)


# --- withholding --------------------------------------------------------------------------------------------------
TAX_FORMS = {"": "Any other", "none": "No form", "w9": "W-9", "w8ben": "W-8BEN", "w8bene": "W-8BEN-E"}


class WithholdingForm(forms.Form):
    jurisdiction = forms.CharField(
        label="Withheld for", max_length=2, initial="US", help_text="ISO 3166 code of the country that has it withheld."
    )
    country = forms.CharField(
        label="Payees of", max_length=2, required=False,
        help_text="Where they are resident for tax; empty for any other.",
    )  # fmt: skip
    form = forms.ChoiceField(
        required=False,
        choices=list(TAX_FORMS.items()),
    )
    rate_ppb = PercentField(label="Rate, per cent")
    treaty = forms.CharField(
        label="Treaty or rule", required=False, max_length=40, help_text="Such as “US-DE treaty, art. 12(1)”."
    )
    effective_from = forms.DateField(label="From", widget=DateInput())

    def clean_jurisdiction(self) -> str:
        return str(self.cleaned_data["jurisdiction"]).upper()

    def clean_country(self) -> str:
        return str(self.cleaned_data["country"]).upper()
