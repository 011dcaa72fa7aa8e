"""What the mails say: how a job ended, each scan's number with its limits, and the link to the rest.

No file name, no patient data. The subject holds no number either, since it is shown on locked screens; and
where nothing stands out the mail says what that does not mean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import cast

import jinja2

from pipeline import wording
from pipeline.clock import now, to_text
from pipeline.errors import Failure
from pipeline.links import Links
from pipeline.report import RESEARCH_USE_ONLY, Report
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


@dataclass(frozen=True)
class Outcome:
    """How one scan ended: it has a report, or a failure.

    Attributes:
        report: Its result.
        failure: Why it has none.
        picture: The summary to be shown in the mail, PNG.
    """

    report: Report | None = None
    failure: Failure | None = None
    picture: bytes | None = None

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the mail says of the result: the number, then what limits it. Not where regions stand out."""
        if self.report is None:
            return ()
        saliency = self.report.saliency
        nothing = () if saliency.positive else (wording.finding(saliency),)
        return (wording.estimate(self.report.core_estimate), *nothing, *self.report.warnings)


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
    outcomes: Sequence[Outcome],
    mail_from: str,
    *,
    retries: int = 0,
) -> EmailMessage:
    """Return the mail that tells a submitter how a job ended.

    Args:
        job: The submission; it has an address.
        links: Its addresses.
        outcomes: One per scan, in the job's order.
        mail_from: The sender.
        retries: Of the job's scans by hand, after a mail that told of a failure.
    """
    reports = [outcome.report for outcome in outcomes if outcome.report]
    headline = wording.headline(total=len(outcomes), ready=len(reports))
    values = {
        "headline": headline,
        "outcomes": outcomes,
        "ready": len(reports),
        "models": list(dict.fromkeys(report.model.description for report in reports)),
        "retried": retries > 0,
        "link": links.result,
        "expires": job.links_expire_at.strftime("%d %B %Y, %H:%M UTC").removeprefix("0"),
    }
    message = EmailMessage(policy=SMTP)
    message["From"] = mail_from
    message["To"] = job.email
    message["Subject"] = f"corestream: {headline[0].lower()}{headline[1:]}"
    message["Date"] = format_datetime(now())
    message["Message-ID"] = message_id(job, mail_from, retries)
    # RFC 3834, and Exchange's own: no out-of-office answer to a machine.
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(_TEMPLATES.get_template("result.txt").render(values))
    message.add_alternative(_TEMPLATES.get_template("result.html").render(values), subtype="html")
    for number, outcome in enumerate(outcomes, start=1):
        if outcome.picture:
            html = cast("EmailMessage", message.get_body(("related", "html")))
            cid = f"<preview-{number}>"
            html.add_related(outcome.picture, "image", "png", cid=cid, disposition="inline")
    return message
