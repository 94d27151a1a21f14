"""What people type about payouts, checked and turned into minor units, dates and reasons."""

from payouts.forms.fields import MinorAmountField, ReasonForm, SureForm
from payouts.forms.payees import (
    ChooseRailForm,
    DecideLinkForm,
    DifferentPeopleForm,
    LinkForm,
    PlaceHoldForm,
    TaxFormForm,
)
from payouts.forms.portal import BankDetailsForm, NoticesForm, ThresholdForm
from payouts.forms.rules import DecidePolicyForm, PolicyForm, RolesForm
from payouts.forms.runs import (
    ApproveForm,
    BankLinesForm,
    BuildRunForm,
    DecideUnknownForm,
    ExportForm,
    ReverseForm,
    TopUpForm,
)

__all__ = [
    "ApproveForm",
    "BankDetailsForm",
    "BankLinesForm",
    "BuildRunForm",
    "ChooseRailForm",
    "DecideLinkForm",
    "DecidePolicyForm",
    "DecideUnknownForm",
    "DifferentPeopleForm",
    "ExportForm",
    "LinkForm",
    "MinorAmountField",
    "NoticesForm",
    "PlaceHoldForm",
    "PolicyForm",
    "ReasonForm",
    "ReverseForm",
    "RolesForm",
    "SureForm",
    "TaxFormForm",
    "ThresholdForm",
    "TopUpForm",
]
