"""What the mails say. No file name, no finding, no patient data: whoever reads a mailbox learns of a link."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import cast

import jinja2

from pipeline.clock import now, to_text
from pipeline.errors import Failure
from pipeline.links import Links
from pipeline.report import RESEARCH_USE_ONLY
from pipeline.storage import JobRecord

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=jinja2.select_autoescape(["html"]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.globals["research_use_only"] = RESEARCH_USE_ONLY


def message_id(job: JobRecord, mail_from: str, retries: int = 0) -> str:
    """Return the Message-ID of a job's mail: the same for every try, so that a repeat can be recognised.

    Args:
        job: The submission.
        mail_from: The sender, whose domain it carries.
        retries: Of the job's scans by hand; the mail about what came of them is another mail.
    """
    named = f"{job.job_id} {to_text(job.created_at)} {job.email} {retries}"
    digest = hashlib.sha256(named.encode()).hexdigest()[:24]
    domain = mail_from.rpartition("@")[2].rstrip("> ")
    return f"<result.{digest}@{domain}>"  # short: a folded Message-ID is legal and often misread


def result_mail(
    job: JobRecord,
    links: Links,
    failures: Sequence[Failure | None],
    mail_from: str,
    *,
    retries: int = 0,
    previews: Sequence[bytes] = (),
) -> EmailMessage:
    """Return the mail that tells a submitter how a job ended.

    Args:
        job: The submission; it has an address.
        links: Its addresses.
        failures: One per scan in the job's order: why it has no result, or None where it has one.
        mail_from: The sender.
        retries: Of the job's scans by hand, after a mail that told of a failure.
        previews: Summary pictures to be shown in the mail, PNG.
    """
    failed = [(number, failure) for number, failure in enumerate(failures, start=1) if failure]
    headline = _headline(total=len(failures), failed=len(failed))
    values = {
        "headline": headline,
        "failed": failed,
        "total": len(failures),
        "retried": retries > 0,
        "link": links.result,
        "previews": len(previews),
        "expires": job.links_expire_at.strftime("%d %B %Y, %H:%M UTC").removeprefix("0"),
    }
    message = EmailMessage(policy=SMTP)
    message["From"] = mail_from
    message["To"] = job.email
    message["Subject"] = f"corestream: {headline}"
    message["Date"] = format_datetime(now())
    message["Message-ID"] = message_id(job, mail_from, retries)
    # RFC 3834, and Exchange's own: no out-of-office answer to a machine.
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(_TEMPLATES.get_template("result.txt").render(values))
    message.add_alternative(_TEMPLATES.get_template("result.html").render(values), subtype="html")
    for number, picture in enumerate(previews, start=1):
        html = cast("EmailMessage", message.get_body(("related", "html")))
        html.add_related(picture, "image", "png", cid=f"<preview-{number}>", disposition="inline")
    return message


def _headline(*, total: int, failed: int) -> str:
    if failed == 0:
        return "your scan is ready" if total == 1 else f"your {total} scans are ready"
    if failed < total:
        return f"{total - failed} of your {total} scans {'is' if total - failed == 1 else 'are'} ready"
    return (
        "your scan could not be processed" if total == 1 else f"none of your {total} scans could be processed"
    )
