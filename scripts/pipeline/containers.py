"""Docker's command line, asked for facts."""

import os
import subprocess

from scripts.project import UserError


def docker(*arguments: str) -> str:
    """What `docker ARGUMENTS` prints. Raises UserError with Docker's own words where it fails."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"'docker {arguments[0]}' failed: {' '.join(done.stderr.split())[-500:]}")
    return done.stdout.strip()


def of_this_clone() -> str:
    """The filter for what bears this clone's label."""
    return f"label=pipeline.clone={os.environ['CLONE']}"
