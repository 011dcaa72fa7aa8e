"""E-mail addresses as submitters give them."""

from __future__ import annotations

import email_validator
from email_validator import EmailNotValidError, validate_email

from pipeline.web.problems import ProblemError

# A hospital's own mail server may well answer to jane@mail.hospital.local.
for _name in ("local", "localhost"):
    email_validator.SPECIAL_USE_DOMAIN_NAMES.remove(_name)
MAX_EMAIL_BYTES = 320
"""64 of the mailbox, the @ and 255 of the domain (RFC 5321, 4.5.3.1)."""


def read_address(text: str) -> str | None:
    """Return an address in its normal form, or None where the field was left empty.

    Whether its domain takes mail is not asked for: that needs a name server, and hospitals are offline.

    Raises:
        ProblemError: It is none.
    """
    address = text.strip()
    if not address:
        return None
    try:
        return validate_email(
            address, check_deliverability=False, globally_deliverable=False, allow_smtputf8=False
        ).normalized
    except EmailNotValidError as error:
        raise email_invalid(f"one that is not: {error}") from error


def email_invalid(received: str) -> ProblemError:
    """Return the answer to an address that is none."""
    return ProblemError(
        status=422,
        code="email-invalid",
        title="E-mail address not valid",
        detail=f"Expected an e-mail address such as name@example.org, received {received.rstrip('.')}. "
        "Correct it, or leave it out and keep the link.",
    )
