"""Docker's command line: facts about this clone's containers, and the end of its stages."""

import os
import subprocess
import time
from collections.abc import Sequence

from scripts.project import Unavailable

GRACE = 10  # seconds that a stage has to end by itself, as Docker's own default
TRIES, PAUSE = 3, 1  # to remove a container, and seconds in between


def docker(*arguments: str) -> str:
    """Return what `docker ARGUMENTS` prints. Raise Unavailable with Docker's own words if it fails."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"'docker {arguments[0]}' failed: {' '.join(done.stderr.split())[-500:]}")
    return done.stdout.strip()


def of_this_clone() -> str:
    """Return the filter for what bears this clone's label."""
    return f"label=pipeline.clone={os.environ['CLONE']}"


def is_of_a_part(clone: str) -> bool:
    """Return whether a container's label `pipeline.clone` names a part of this clone: its name, a dot and the part's.

    Whoever runs stages in several working copies at once gives each such a name, so that a stage of one can be stopped.
    """
    return clone.startswith(f"{os.environ['CLONE']}.")


def stop_stages(stage: str = "", *, grace: int = GRACE) -> bool:
    """Stop and remove this clone's containers of `stage`, or of all stages; return True if there were any.

    A docker client that is killed leaves its container running, which would go on to write outputs.
    """
    label = f"label=pipeline.stage={stage}" if stage else "label=pipeline.stage"
    found = docker("container", "ls", "--all", "--quiet", "--filter", of_this_clone(), "--filter", label).split()
    stop(found, grace)
    return bool(found)


def stop(containers: Sequence[str], grace: int) -> None:
    """Stop and remove `containers`, each of which may be gone by itself meanwhile.

    An engine that was killed may need a moment until it lets go of a container's files.
    """
    if not containers:
        return
    subprocess.run(["docker", "container", "stop", "--time", str(grace), *containers], capture_output=True)
    for _ in range(TRIES):
        done = subprocess.run(["docker", "container", "rm", "--force", *containers], capture_output=True, text=True)
        if all("No such container" in line for line in done.stderr.splitlines()):
            return
        time.sleep(PAUSE)
