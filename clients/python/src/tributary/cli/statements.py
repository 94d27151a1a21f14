"""`tributary statement verify`."""

from __future__ import annotations

import argparse

from tributary.cli.output import DONE, REFUSED, UNFINISHED, Output
from tributary.statements import StatementError, verify_statement


def verify(options: argparse.Namespace, output: Output) -> int:
    """Verify a statement offline: proved (0), wrong (1), or not sealed yet (4)."""
    try:
        verified = verify_statement(options.file, root=options.root)
    except StatementError as reason:
        output.result({"proved": False, "reason": str(reason)}, f"NOT VERIFIED: {reason}")
        return REFUSED
    lines = [
        f"Statement of {verified.reference} for {verified.period}: the figures agree with each other,",
        f"{verified.accounts} account(s), {verified.credits} credit(s).",
    ]
    if verified.is_proved:
        lines.append(f"They are in the ledger as sealed under the root {verified.root}")
        if not options.root:
            lines.append("Compare this root with the published one, or give that with --root.")
    else:
        lines.append("The period is not sealed yet, so there is no proof that these are the ledger's figures.")
    output.result(
        {
            "proved": verified.is_proved,
            "period": verified.period,
            "reference": verified.reference,
            "accounts": verified.accounts,
            "credits": verified.credits,
            "root": verified.root or None,
            "compared_with": options.root or None,
        },
        *lines,
    )
    return DONE if verified.is_proved else UNFINISHED
