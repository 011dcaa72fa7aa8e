"""The command `corestream`."""

from __future__ import annotations

import typer

from corestream import service_commands
from corestream.align import align
from corestream.dead import dead
from corestream.detect import detect
from corestream.doctor import doctor
from corestream.feedback import feedback
from corestream.jobs import jobs
from corestream.keys import keys
from corestream.ledger import ledger
from corestream.mail.command import catch_mail
from corestream.model import model
from corestream.sample import sample
from corestream.submit import status, submit
from corestream.up.command import up

app = typer.Typer(
    name="corestream",
    help="CT angiograms in, stroke-core saliency maps out. Research use only. Not for diagnosis.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they may hold tokens and addresses
)
for _command in (up, submit, status, jobs, ledger, detect, align, sample, doctor):
    app.command()(_command)
app.add_typer(dead, name="dead")
app.add_typer(feedback, name="feedback")
app.add_typer(keys, name="keys")
app.add_typer(model, name="model")
app.command("catch-mail", rich_help_panel="Services")(catch_mail)
service_commands.add_to(app)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
