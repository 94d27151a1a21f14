"""What a run obeys: thresholds, maturity, when a second approver is needed, what is withheld."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

from django.db import transaction
from django.db.models import Max

from contributors.models import Contributor, User
from payouts import money
from payouts.models import PayoutPolicy, TaxProfile
from payouts.operations.audit import ADMIN, CHECKER, COMPLIANCE, MAKER, NOBODY, Presence, audit, require_role


@dataclass(frozen=True)
class Terms:
    """The figures of a policy version, as a run freezes them. Version 0 is what holds where nobody adopted one."""

    currency: str
    version: int
    minimum_minor: int
    maturity_days: int
    second_approval_minor: int | None
    bank_change_days: int
    requires_tax_form: bool

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class UnableToAdoptPolicy(Exception):
    """A figure of the policy makes no sense."""

    status = 422
    problem = "policy-invalid"


def terms_in_force(currency: str) -> Terms:
    latest = PayoutPolicy.objects.filter(currency=currency).order_by("-version").first()
    if latest is None:
        return Terms(
            currency, 0, money.minimum_default(currency), money.MATURITY_DAYS_DEFAULT, None, 3, requires_tax_form=False
        )
    return Terms(
        currency, latest.version, latest.minimum_minor, latest.maturity_days, latest.second_approval_minor,
        latest.bank_change_days, latest.requires_tax_form,
    )  # fmt: skip


@transaction.atomic
def adopt_policy(
    *,
    currency: str,
    minimum_minor: int,
    maturity_days: int,
    by: User,
    at: datetime,
    second_approval_minor: int | None = None,
    bank_change_days: int = 3,
    requires_tax_form: bool = False,
    seen: Presence = NOBODY,
) -> PayoutPolicy:
    """Make a new version of a currency's policy; runs built from now on obey it."""
    require_role(by, MAKER, CHECKER, ADMIN)
    if minimum_minor <= 0 or maturity_days < 0 or bank_change_days < 0:
        raise UnableToAdoptPolicy("The minimum must be positive, and the delays must not be negative.")
    if second_approval_minor is not None and second_approval_minor < 0:
        raise UnableToAdoptPolicy("The limit for a second approver must not be negative.")
    latest = PayoutPolicy.objects.filter(currency=currency).aggregate(Max("version"))["version__max"] or 0
    policy = PayoutPolicy.objects.create(
        currency=currency, version=latest + 1, minimum_minor=minimum_minor, maturity_days=maturity_days,
        second_approval_minor=second_approval_minor, bank_change_days=bank_change_days,
        requires_tax_form=requires_tax_form, created_by=by, created_at=at,
    )  # fmt: skip
    audit(
        by=by, action="adopt_policy", subject=f"policy:{currency}:{policy.version}", at=at, seen=seen,
        after=terms_in_force(currency).as_json(),
    )  # fmt: skip
    return policy


@transaction.atomic
def record_tax_profile(
    *,
    contributor: Contributor,
    form: str,
    withholding_ppb: int,
    by: User,
    at: datetime,
    valid_until: date | None = None,
    jurisdiction: str = "US",
    seen: Presence = NOBODY,
) -> TaxProfile:
    """State what is withheld from a contributor, and on which form."""
    require_role(by, MAKER, CHECKER, COMPLIANCE, ADMIN)
    profile = TaxProfile.objects.create(
        contributor=contributor, form=form, withholding_ppb=withholding_ppb, valid_until=valid_until,
        jurisdiction=jurisdiction, recorded_by=by, recorded_at=at,
    )  # fmt: skip
    audit(
        by=by, action="record_tax_profile", subject=f"contributor:{contributor.pk}", at=at, seen=seen,
        after={"form": form, "withholding_ppb": withholding_ppb, "valid_until": str(valid_until or "")},
    )  # fmt: skip
    return profile
