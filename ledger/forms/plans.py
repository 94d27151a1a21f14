"""The forms in which finance staff enter plans, pools and restatements, turned into units and parts of a billion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms

from attribution.models import ModelService, ModelVersion
from ledger.forms.fields import PercentField
from ledger.models import RoyaltyPlan
from ledger.money import ASSETS, UnableToParseAmount
from ledger.typed_amounts import units_of_typed
from people.presentation import amounts, dates, percent

SERVICE, MODEL = "service:", "model:"
DATE = forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})


def _units(form: forms.Form, name: str, currency: str) -> int | None:
    """The units of a typed amount; None for an empty field, or for one with an error, which is then marked."""
    text = str(form.cleaned_data.get(name, "")).strip()
    if not text:
        return None
    try:
        return units_of_typed(text, currency)
    except UnableToParseAmount as error:
        form.add_error(name, str(error))
        return None


class PlanForm(forms.Form):
    """A royalty plan. `terms()` is the operation's input."""

    currency = forms.ChoiceField(choices=[(code, code) for code in ASSETS])
    scope = forms.ChoiceField(
        label="Holds for",
        required=False,
        help_text="The most specific plan in force prices a generation: its model's, else its service's, else the "
        "general one. A new version of a model takes a plan of its own, or falls under its service's.",
    )
    effective_from = forms.DateField(
        label="In effect from", widget=DATE, help_text="Midnight UTC. Earlier generations keep the plan they had."
    )
    basis = forms.ChoiceField(
        choices=[(value, label.capitalize()) for value, label in RoyaltyPlan.Basis.choices], widget=forms.RadioSelect
    )
    price = forms.CharField(required=False, max_length=40, help_text="For each generation, such as 0.05.")
    rate = PercentField(
        label="Share of revenue, per cent", required=False, help_text="The part of the gross that a service reports."
    )
    pool = forms.CharField(
        label="Pool of each month",
        required=False,
        max_length=40,
        help_text="Divided equally among the month's generations at its close. Empty: two people declare it.",
    )
    pool_service = forms.ChoiceField(label="Pool paid by", required=False)
    take = PercentField(label="Platform take, per cent", help_text="Of the gross; below 100.")
    floor = PercentField(
        label="Base part, per cent", help_text="The part of the rest that is divided by the base rule."
    )
    floor_rule = forms.ChoiceField(
        choices=[(value, label.capitalize()) for value, label in RoyaltyPlan.FloorRule.choices],
        widget=forms.RadioSelect,
        initial=RoyaltyPlan.FloorRule.GENERAL,
    )
    general = PercentField(
        label="Paid by general shares, per cent",
        required=False,
        help_text="The part of the direct pool that goes by general influence; usually none.",
    )
    cap = PercentField(
        label="Cap, per cent", initial=100, help_text="The most that one contributor may take of a month's base pool."
    )
    unattributable = forms.ChoiceField(
        label="A generation that cannot be attributed",
        choices=[(value, label.capitalize()) for value, label in RoyaltyPlan.Unattributable.choices],
        widget=forms.RadioSelect,
        initial=RoyaltyPlan.Unattributable.BASE_POOL,
        required=False,
        help_text="Such as one with tokens that the model does not know.",
    )
    note = forms.CharField(required=False, max_length=300, help_text="Why; it stands beside the plan.")

    def __init__(
        self, *args: Any, services: Sequence[tuple[str, str]], models: Sequence[tuple[str, str]] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        payer, scope = self.fields["pool_service"], self.fields["scope"]
        assert isinstance(payer, forms.ChoiceField)
        assert isinstance(scope, forms.ChoiceField)
        payer.choices = [("", "The programme"), *services]
        scope.choices = [
            ("", "All services"),
            *((f"{SERVICE}{key}", f"Only {name}") for key, name in services),
            *((f"{MODEL}{key}", f"Only {name}") for key, name in models),
        ]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        basis, currency = cleaned.get("basis"), cleaned.get("currency", "USD")
        for name, wanted in (("price", "price"), ("pool", "period_pool")):
            cleaned[f"{name}_units"] = _units(self, name, currency) if basis == wanted else None
        if basis == "price" and cleaned["price_units"] is None and "price" not in self.errors:
            self.add_error("price", "Give the price of one generation.")
        if basis == "revenue_share" and not cleaned.get("rate") and "rate" not in self.errors:
            self.add_error("rate", "Say which part of the revenue is shared.")
        return cleaned

    def facts(self) -> list[tuple[str, str]]:
        """Name every amount and percentage as it was read, for a second look."""
        cleaned, currency = self.cleaned_data, ASSETS[self.cleaned_data["currency"]]
        found = [
            (str(label), amounts.text(units, currency))
            for label, units in (
                ("Price of a generation", cleaned["price_units"]),
                ("Pool of each month", cleaned["pool_units"]),
            )
            if units is not None
        ]
        parts = ["rate"] if cleaned["basis"] == "revenue_share" else []
        for name in (*parts, "take", "floor", "general", "cap"):
            label = str(self.fields[name].label).removesuffix(", per cent")
            found.append((label, percent.text(cleaned[name] or 0)))
        return [*found, ("In effect from", dates.day(cleaned["effective_from"]))]

    def terms(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        basis = cleaned["basis"]
        terms = {
            "basis": basis,
            "price": cleaned["price_units"],
            "rate_ppb": cleaned["rate"] if basis == "revenue_share" else None,
            "pool": cleaned["pool_units"],
            "take_ppb": cleaned["take"],
            "floor_ppb": cleaned["floor"],
            "floor_rule": cleaned["floor_rule"],
            "general_ppb": cleaned["general"] or 0,
            "cap_ppb": cleaned["cap"],
            "unattributable": cleaned["unattributable"] or RoyaltyPlan.Unattributable.BASE_POOL,
            "note": cleaned["note"].strip(),
        }
        scope = cleaned["scope"]
        if scope.startswith(SERVICE):
            terms["service"] = ModelService.objects.get(pk=scope.removeprefix(SERVICE))
        elif scope.startswith(MODEL):
            terms["model_version"] = ModelVersion.objects.select_related("service").get(pk=scope.removeprefix(MODEL))
            terms["service"] = terms["model_version"].service
        if basis == "period_pool" and cleaned["pool_service"]:
            terms["pool_service"] = ModelService.objects.get(pk=cleaned["pool_service"])
        return terms


class PoolForm(forms.Form):
    """The amount that a plan divides in one month, in place of its own amount. Cleans `amount` to units."""

    month = forms.ChoiceField()
    amount = forms.CharField(max_length=40)
    note = forms.CharField(required=False, max_length=300)

    def __init__(self, *args: Any, months: Sequence[tuple[str, str]], currency: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.currency = currency
        field = self.fields["month"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = list(months)
        self.months = dict(months)
        self.fields["amount"].label = f"Pool ({currency})"

    @property
    def month_name(self) -> str:
        return f"Pool of {self.months[self.cleaned_data['month']]}"

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        units = _units(self, "amount", self.currency)
        if units is None and "amount" not in self.errors:
            self.add_error("amount", "Say how much is divided; 0 for nothing.")
        cleaned["amount"] = units
        return cleaned


class RestatementForm(forms.Form):
    """Which index attributes its model version's generations again, and since when."""

    index = forms.ChoiceField(
        label="Model version and index", help_text="Only an index that serves and passed its audit."
    )
    since = forms.DateField(label="Generations since", widget=DATE, help_text="Older ones keep their terms.")
    reason = forms.CharField(max_length=300, help_text="Stands with the restatement for good.")

    def __init__(self, *args: Any, indexes: Sequence[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["index"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = list(indexes)
