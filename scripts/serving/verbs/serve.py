"""`make serve`: a server on 127.0.0.1 that follows production, until Ctrl-C."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress

from scripts.pipeline.console import tell
from scripts.project import PROJECT, UserError
from scripts.recovery.signals import Stopped
from scripts.registry import reader
from scripts.serving import choice, containers
from scripts.serving.agent import LOOKS, SOON, Agent, Wish
from scripts.serving.kept import Kept

TICK = 0.5  # seconds between two questions to the server
ENDINGS = 5  # times that a server may end by itself before it is given up, if it never served in between


def main(arguments: Sequence[str]) -> None:
    given = reader.parse(arguments)
    chosen = choice.choose(given, PROJECT)
    kept = Kept(PROJECT, chosen.model.name)
    containers.check_alone(chosen.model.name)
    image = containers.image_of(chosen)
    which = given.get("version") or given.get("alias") or choice.PRODUCTION
    agent = Agent(kept, Wish(which, given.get("shadow") or ""), tell)
    server = containers.Server(kept, image)
    begun = agent.begin()
    try:
        if not begun:
            ask(agent, chosen, kept)
        server.open()
        tell(f"{chosen.model.name}: {server.link()}/docs (POST {server.link()}/invocations); Ctrl-C stops it")
        if begun:
            ask(agent, chosen, kept)
        follow(server, agent)
        tell("the server was stopped")
    except Stopped as stopped:
        tell(f"\nstopped by {stopped.name}; what serves is kept in {os.path.relpath(kept.folder, PROJECT.root)}/")
    finally:
        server.remove()


def ask(agent: Agent, chosen: choice.Choice, kept: Kept) -> None:
    """Ask the registry what is to serve, and the scorer for rows on which a version is tried."""
    with suppress(UserError):  # the registry may be away: the last good version is here
        reader.start_server()
    agent.look()
    containers.keep_sample(chosen, chosen.wanted[chosen.scorer.block], kept, PROJECT)


def follow(server: containers.Server, agent: Agent) -> None:
    """Return when somebody has closed the door. Raise UserError if the server ends again and again."""
    looked, endings = time.monotonic(), 0
    while True:
        time.sleep(TICK)
        if told := server.told():
            agent.heard(told)
            endings = 0 if told.get("version") else endings
        elif not server.is_up():
            if not server.is_open():
                return
            endings += 1
            tell(f"the server has ended ({server.last_words()}); another one takes its place")
            if endings > ENDINGS:
                raise UserError("the server ends again and again; expected it to serve: see its last words above")
            server.start()
        if time.monotonic() - looked >= (LOOKS if agent.current else SOON):
            looked = time.monotonic()
            agent.look()
