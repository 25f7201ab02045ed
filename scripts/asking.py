"""Asks before what cannot be taken back."""

from scripts.project import UserError


def go_on(*, agreed: bool) -> None:
    """Ask whether to go on, unless that is agreed on the command line. Raise UserError if the answer is not yes."""
    if agreed:
        return
    try:
        answer = input("Go on? [y/N] ")
    except EOFError:
        print(flush=True)
        answer = ""
    if answer not in ("y", "Y", "yes"):
        raise UserError("nothing was done; expected 'y', or YES=1 on the command line")
