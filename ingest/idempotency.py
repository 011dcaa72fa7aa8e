"""`Idempotency-Key`: a submission that is sent again is the same submission.

After draft-ietf-httpapi-idempotency-key-header. The id of the job is made from the key, so its record on the
disk is the only thing that remembers the key: it appears with the job, in one step, and goes with it.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from aiohttp import web

from ingest.received import Received
from pipeline.ids import Id
from pipeline.storage import JobRecord
from pipeline.web.problems import ProblemError

HEADER = "Idempotency-Key"
RETRY_UNDER_WAY_S = 5

_KEY = re.compile(r'"(?P<quoted>[ !#-\[\]-~]{1,255})"|(?P<bare>[!#-~]{1,255})')
"""A structured-field string without escapes, as the draft has it, or the bare token that clients send."""


def read_key(request: web.Request) -> str | None:
    """Return a request's key, None where it has none.

    Raises:
        ProblemError: It is none.
    """
    sent = request.headers.getall(HEADER, [])
    if not sent:
        return None
    found = _KEY.fullmatch(sent[0].strip()) if len(sent) == 1 else None
    if found is None:
        raise ProblemError(
            status=400,
            code="idempotency-key-invalid",
            title="Idempotency-Key not valid",
            detail="Expected one Idempotency-Key of 1 to 255 printable ASCII characters, received another. "
            "Make one for each submission, a random UUID for example.",
        )
    return found["quoted"] or found["bare"]


def job_id(key: str, secret: str) -> Id:
    """Return the id of the job that a key makes: unguessable without the installation's secret."""
    return hmac.new(secret.encode(), f"idempotency {key}".encode(), hashlib.sha256).hexdigest()[:32]


def key_of_uploads(upload_ids: tuple[str, ...]) -> str:
    """Return the key of a submission of resumable uploads that brings none: an upload goes into one job.

    No client can send it: it is more than one line.
    """
    return "\n".join(["uploads", *upload_ids])


def require_same(record: JobRecord, received: Received) -> None:
    """Check that a submission that came again is the same: the same files in the same order and address.

    Resumable uploads are gone once a job has taken them; they are the same if their ids are.

    Raises:
        ProblemError: It is another.
    """
    if received.upload_ids or record.upload_ids:
        same = received.upload_ids == record.upload_ids
    else:
        same = [upload.sha256 for upload in received.uploads] == [scan.sha256 for scan in record.scans]
    if not same or received.email != record.email:
        raise ProblemError(
            status=422,
            code="idempotency-key-reused",
            title="Idempotency-Key used before",
            detail="Expected the same files and e-mail address as when this Idempotency-Key was used first, "
            "received others. Nothing was kept. Use a new key for a new submission.",
        )


def under_way() -> ProblemError:
    """Return the answer to a submission whose first sending has not ended."""
    return ProblemError(
        status=409,
        code="submission-under-way",
        title="Under way",
        detail="Expected the end of the submission that was sent first with this Idempotency-Key, but it is "
        "still under way. Send this one again in a moment: the reply will be that of the first.",
        headers={"Retry-After": str(RETRY_UNDER_WAY_S)},
    )
