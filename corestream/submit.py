"""`corestream submit` and `corestream status`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from aiohttp import ClientSession
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from corestream import api
from corestream.console import ExitStatus, err, fail, out, print_json
from corestream.errors import Document, RefusedError, UnreachableError
from corestream.job_text import job_text, scan_line
from corestream.up.data_folder import SECRET_FILE
from pipeline.errors import JobNotFoundError
from pipeline.links import Links, Tokens
from pipeline.settings import INGEST_PORT, PREFIX
from pipeline.storage import Storage

ServerOption = Annotated[
    str, typer.Option(envvar="CORESTREAM_PUBLIC_URL", help="Where corestream's upload page is.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs, and nothing else.")]
DEFAULT_SERVER = f"http://127.0.0.1:{INGEST_PORT}"


def submit(
    files: Annotated[
        list[Path],
        typer.Argument(
            exists=True, readable=True, help="NIfTI volumes, DICOM series as ZIP, or folders of them."
        ),
    ],
    email: Annotated[str | None, typer.Option(help="Where the result is announced.")] = None,
    server: ServerOption = DEFAULT_SERVER,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job until it is finished.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Submit scans as one job; of a folder, all files in it.

    A connection that breaks is waited for. After Ctrl-C while it sends, the same command goes on where it
    stopped; later the job goes on by itself.

    Exit status: 0 accepted (with --wait: every scan has a result), 1 refused or a scan failed, 2 wrong
    arguments or no server, 130 interrupted.
    """
    document = _run(
        _submit(_files(files), email, server, quiet=as_json),
        as_json=as_json,
        interrupted="The same command goes on where it stopped.",
    )
    if wait:
        document = _run(
            _follow(document["status_url"], quiet=as_json),
            as_json=as_json,
            interrupted=f"The job goes on: {document['page_url']}",
        )
    if as_json:
        print_json(document)
    elif wait:
        out.print(job_text(document))
    else:
        out.print(f"job     {document['job_id']}\nfollow  {document['page_url']}")
        out.print(f"status  {document['status_url']}", markup=False)
    raise typer.Exit(_exit_status(document) if wait else ExitStatus.DONE)


def status(
    job: Annotated[str, typer.Argument(help="A job's status URL, or its id where its files are at hand.")],
    server: ServerOption = DEFAULT_SERVER,
    data: Annotated[
        Path, typer.Option(envvar="CORESTREAM_DATA_DIR", help="Where its files and key are.")
    ] = Path("data"),
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what became of a job.

    Exit status: 0 open or done, 1 refused or a scan failed, 2 wrong arguments or no server.
    """
    url = job if "://" in job else _sign(job, server, data)
    document = _run(_status(url), as_json=as_json, interrupted="Nothing was changed.")
    if as_json:
        print_json(document)
    else:
        out.print(job_text(document))
    raise typer.Exit(_exit_status(document))


async def _submit(files: Sequence[Path], email: str | None, server: str, *, quiet: bool) -> Document:
    async with api.session() as http:
        with nullcontext() if quiet else _upload_progress() as progress:
            if progress is None:
                return await api.submit(http, server, files, email)
            task = progress.add_task("uploading", total=sum(path.stat().st_size for path in files))
            return await api.submit(http, server, files, email, lambda count: progress.advance(task, count))


async def _follow(status_url: str, *, quiet: bool) -> Document:
    async with api.session() as http:
        return await wait_for_job(http, status_url, quiet=quiet)


async def wait_for_job(http: ClientSession, status_url: str, *, quiet: bool = False) -> Document:
    """Follow a job to its end, saying each change of a scan's state once, and return what became of it."""
    said: list[str] = []
    job: Document = {}
    with nullcontext() if quiet else err.status("waiting for the result"):
        async for job in api.follow_job(http, status_url):
            lines = [scan_line(number, scan) for number, scan in enumerate(job["scans"], start=1)]
            for line in lines if not quiet else ():
                if line not in said:
                    err.print(line)
            said = lines
    return job


async def _status(url: str) -> Document:
    async with api.session() as http:
        return await api.read_job(http, url)


def _run(work: Coroutine[Any, Any, Document], *, as_json: bool, interrupted: str) -> Document:
    """Run to the document, or end the command with what is wrong, or with how it stands when interrupted."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        fail(f"Interrupted. {interrupted}", ExitStatus.INTERRUPTED)
    except RefusedError as error:
        status = ExitStatus.USAGE if error.is_server_fault else ExitStatus.FAILED
        problem = error.problem
    except (UnreachableError, OSError) as error:
        status = ExitStatus.USAGE
        problem = {"title": "No answer", "detail": str(error), "code": "unreachable"}
    if as_json:
        print_json(problem)
    else:
        err.print(f"{problem['title']}. {problem['detail']} ({problem['code']})", style="red", markup=False)
    raise typer.Exit(status)


def _files(paths: Sequence[Path]) -> list[Path]:
    """Return files, and of folders all that is in them and not hidden, in the order of their names."""
    found = [
        file
        for path in paths
        for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
        if file.is_file() and not file.name.startswith(".")
    ]
    if not found:
        fail("Expected scans, found none in what was named.", ExitStatus.USAGE)
    return list(dict.fromkeys(found))


def _exit_status(job: Document) -> ExitStatus:
    failed = any(scan["state"] == "failed" for scan in job["scans"])
    return ExitStatus.FAILED if failed else ExitStatus.DONE


def _upload_progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=err
    )


def _sign(job_id: str, server: str, data: Path) -> str:
    """Return the status URL of a job whose files are at hand."""
    try:
        record = Storage(data).read_job(job_id)
        key = os.environ.get(f"{PREFIX}SECRET_KEY")
        key = key or (data / SECRET_FILE).read_text(encoding="ascii").strip()
    except (JobNotFoundError, OSError):
        fail(
            f"Expected job {job_id} and the key that signs its link under {data}, found no such. "
            "Give the status URL that `corestream submit` printed, or the folder with --data.",
            ExitStatus.USAGE,
        )
    token = Tokens(key).issue(job_id, record.links_expire_at)
    return Links(server.rstrip("/"), "", job_id, token).status
