"""The number of a bank account where a bank transfer goes: an IBAN, or a local number by the rules of its country.

One table of formats: the fields of each country, their form, the check digits where the country has a public rule, and
the code of its clearing in ISO 20022 (ExternalClearingSystemIdentification1Code). It knows nothing of models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

IBAN_FORMAT = "IBAN"


class UnableToReadNumber(Exception):
    """The number does not follow the format; the words name the field to compare."""

    status = 422
    problem = "account-number-invalid"

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Field:
    """`pattern` is that of the compact value: capitals, without spaces, hyphens, dots and slashes."""

    name: str
    label: str
    help: str
    pattern: str
    choices: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Format:
    """A country's way to name an account. `account` names the field of the number itself, `member` makes the number of
    the bank and the branch in the clearing `clearing`; both are empty where the bank is named by its BIC."""

    country: str
    fields: tuple[Field, ...]
    account: str
    member: Callable[[Mapping[str, str]], str] = lambda values: ""
    clearing: str = ""
    check: Callable[[Mapping[str, str]], tuple[str, str] | None] = lambda values: None

    @property
    def needs_bic(self) -> bool:
        return not self.clearing


@dataclass(frozen=True)
class Number:
    """A checked local number: its country, its compact fields."""

    country: str
    fields: Mapping[str, str]

    @property
    def account(self) -> str:
        return self.fields[FORMATS[self.country].account]

    @property
    def clearing(self) -> str:
        return FORMATS[self.country].clearing

    @property
    def member(self) -> str:
        """Return the number of bank and branch in the clearing; empty where there is none."""
        return FORMATS[self.country].member(self.fields)

    @property
    def text(self) -> str:
        """Return the whole number in one line, for a digest and for a list of orders."""
        return " ".join(f"{name} {self.fields[name]}" for name in sorted(self.fields))


def _weighted(digits: str, weights: tuple[int, ...], modulus: int) -> int:
    return sum(int(d) * w for d, w in zip(digits, weights, strict=True)) % modulus


def _aba(values: Mapping[str, str]) -> tuple[str, str] | None:
    if _weighted(values["routing_number"], (3, 7, 1) * 3, 10):
        return "routing_number", "Its last digit does not fit the others; one digit may be wrong."
    return None


def _clabe(values: Mapping[str, str]) -> tuple[str, str] | None:
    number = values["clabe"]
    total = sum(int(d) * w % 10 for d, w in zip(number[:17], (3, 7, 1) * 6, strict=False))
    if (10 - total % 10) % 10 != int(number[17]):
        return "clabe", "Its last digit does not fit the others; one digit may be wrong."
    return None


def _brazil(values: Mapping[str, str]) -> tuple[str, str] | None:
    number = values["tax_number"]
    if len(set(number)) > 1 and (_cpf(number) if len(number) == 11 else _cnpj(number)):
        return None
    return "tax_number", "Its last two digits do not fit the others; one digit may be wrong."


def _cpf(number: str) -> bool:
    for n in (9, 10):
        rest = _weighted(number[:n], tuple(range(n + 1, 1, -1)), 11)
        if int(number[n]) != (0 if rest < 2 else 11 - rest):
            return False
    return True


def _cnpj(number: str) -> bool:
    weights = (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
    for n in (12, 13):
        rest = _weighted(number[:n], weights[13 - n :], 11)
        if int(number[n]) != (0 if rest < 2 else 11 - rest):
            return False
    return True


def _digits(name: str, label: str, least: int, most: int, help_: str = "") -> Field:
    count = f"{least} digits" if least == most else f"{least} to {most} digits"
    return Field(name, label, help_ or f"{count[0].upper()}{count[1:]}.", rf"\d{{{least},{most}}}")


_FORMATS = (
    Format(
        "AU", (_digits("bsb", "BSB", 6, 6), _digits("account_number", "Account number", 5, 9)),
        account="account_number", member=lambda v: v["bsb"], clearing="AUBSB",
    ),
    Format(
        "BR",
        (
            _digits("bank_code", "Bank code", 3, 3),
            Field("branch", "Branch (agência)", "4 or 5 digits, with its check digit.", r"\d{4}[\dX]?"),
            Field("account_number", "Account number (conta)", "With its check digit.", r"\d{2,12}[\dX]"),
            Field("tax_number", "CPF or CNPJ", "11 or 14 digits, of the account's holder.", r"\d{11}|\d{14}"),
        ),
        account="account_number", check=_brazil,
    ),
    Format(
        "CA",
        (
            _digits("institution_number", "Institution number", 3, 3),
            _digits("transit_number", "Transit number", 5, 5),
            _digits("account_number", "Account number", 7, 12),
        ),
        account="account_number", clearing="CACPA",
        member=lambda v: f"0{v['institution_number']}{v['transit_number']}",
    ),
    Format(
        "GB", (_digits("sort_code", "Sort code", 6, 6), _digits("account_number", "Account number", 8, 8)),
        account="account_number", member=lambda v: v["sort_code"], clearing="GBDSC",
    ),
    Format(
        "IN",
        (
            Field("ifsc", "IFSC", "Four letters, a zero, six letters or digits.", r"[A-Z]{4}0[A-Z0-9]{6}"),
            _digits("account_number", "Account number", 9, 18),
        ),
        account="account_number", member=lambda v: v["ifsc"], clearing="INFSC",
    ),
    Format(
        "JP",
        (
            _digits("bank_code", "Bank code", 4, 4),
            _digits("branch_code", "Branch code", 3, 3),
            Field(
                "account_type", "Kind of account", "", "[124]",
                (("1", "Ordinary (futsu)"), ("2", "Current (toza)"), ("4", "Savings (chochiku)")),
            ),
            _digits("account_number", "Account number", 7, 7),
        ),
        account="account_number", member=lambda v: v["bank_code"] + v["branch_code"], clearing="JPZGN",
    ),
    Format("MX", (_digits("clabe", "CLABE", 18, 18),), account="clabe", check=_clabe),
    Format(
        "NZ",
        (Field("account_number", "Account number", "Bank, branch, account, suffix: 15 or 16 digits.", r"\d{15,16}"),),
        account="account_number", member=lambda v: v["account_number"][:6], clearing="NZNCC",
    ),
    Format(
        "SG",
        (
            _digits("bank_code", "Bank code", 4, 4),
            _digits("branch_code", "Branch code", 3, 3),
            _digits("account_number", "Account number", 5, 14),
        ),
        account="account_number", member=lambda v: v["bank_code"] + v["branch_code"], clearing="SGIBG",
    ),
    Format(
        "US",
        (
            _digits("routing_number", "Routing number (ABA)", 9, 9),
            _digits("account_number", "Account number", 4, 17),
            Field(
                "account_type", "Kind of account", "", "CHECKING|SAVINGS",
                (("CHECKING", "Checking"), ("SAVINGS", "Savings")),
            ),
        ),
        account="account_number", member=lambda v: v["routing_number"], clearing="USABA", check=_aba,
    ),
)  # fmt: skip
FORMATS = {form.country: form for form in _FORMATS}


def compact(text: str) -> str:
    """Return the text in capitals, without the separators that people write into numbers."""
    return re.sub(r"[\s\-./]", "", text).upper()


def checked(country: str, given: Mapping[str, str]) -> Number:
    """Return the local number with every field's form and the check digits verified.

    Raises UnableToReadNumber, with the field, for a country without local numbers and for a wrong field.
    """
    form = FORMATS.get(country)
    if form is None:
        raise UnableToReadNumber("Accounts of this country are named by an IBAN.")
    values = {}
    for field in form.fields:
        values[field.name] = compact(given.get(field.name, ""))
        # isascii: other scripts have digits of their own, which a bank does not take.
        if not values[field.name].isascii() or not re.fullmatch(field.pattern, values[field.name]):
            raise UnableToReadNumber(f"{field.label}: this does not look right. {field.help}".strip(), field=field.name)
    if (wrong := form.check(values)) is not None:
        name, words = wrong
        label = next(field.label for field in form.fields if field.name == name)
        raise UnableToReadNumber(f"{label}: {words}", field=name)
    return Number(country, values)


def has_iban(country: str) -> bool:
    """Tell whether the registry of IBANs has a structure for the country."""
    from schwifty import exceptions, registry

    try:
        return bool(registry.get_iban_spec(country))
    except exceptions.SchwiftyException:
        return False
