"""Who may see a job: whoever holds its token."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from pipeline.errors import LinkInvalidError
from pipeline.links import Tokens
from pipeline.storage import JobRecord, Storage
from pipeline.web.auditing import JOB_ID
from pipeline.web.problems import ProblemError

_BEARER = "Bearer "


@dataclass(frozen=True)
class Access:
    """Checks that a request's token opens the job it asks for.

    Attributes:
        tokens: Reads tokens.
        storage: Where jobs lie.
    """

    tokens: Tokens
    storage: Storage

    def job(self, request: web.Request) -> JobRecord:
        """Return the job that a request asks for; the token decides before anything is looked up.

        Raises:
            ProblemError: There is no token.
            LinkInvalidError: The token was not signed here, or names another job.
            LinkExpiredError: Its time is over.
            JobNotFoundError: The job has been deleted.
        """
        job_id = self.tokens.read(_token(request))
        if job_id != request.match_info["job_id"]:
            raise LinkInvalidError(
                "Expected the token of this job, received that of another. Copy the whole link from the mail "
                "or the reply to the submission."
            )
        request[JOB_ID] = job_id
        return self.storage.read_job(job_id)


def _token(request: web.Request) -> str:
    header = request.headers.get("Authorization", "")
    token = header.removeprefix(_BEARER) if header.startswith(_BEARER) else request.query.get("token", "")
    if not token:
        raise ProblemError(
            status=401,
            code="token-missing",
            title="Link incomplete",
            detail="Expected the job's token as `?token=` or `Authorization: Bearer`, received none. "
            "Copy the whole link from the mail or the reply to the submission.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return token
