"""What a block may say of `docker run`: whatever would break a promise is refused with that promise."""

import subprocess

import pytest

from scripts.pipeline import docker_options
from scripts.project import UserError


@pytest.mark.parametrize(
    "option",
    [
        "--ulimit=memlock=-1", "--hostname=here", "--dns=1.1.1.1", "--cpuset-cpus=0", "--device=/dev/kfd",
        "--device=/dev/dri/renderD128", "--add-host=db:10.0.0.7", "--no-healthcheck", "--entrypoint=/bin/true",
    ],
)  # fmt: skip
def test_what_opens_nothing_is_passed_on(option):
    """An option that breaks no promise is Docker's to judge."""
    docker_options.check([option])


@pytest.mark.parametrize(
    ("option", "promise"),
    [
        ("--privileged", "may do nothing that a plain program need not do"),
        ("--privileged=true", "may do nothing that a plain program need not do"),
        ("--cap-add=SYS_ADMIN", "may do nothing"),
        ("--security-opt=seccomp=unconfined", "may do nothing"),
        ("--pid=host", "sees no process, memory or name"),
        ("--volume=/:/host", "its inputs and its own outputs alone"),
        ("--mount=type=bind,src=/,dst=/host", "its inputs and its own outputs alone"),
        ("--volumes-from=other", "its inputs and its own outputs alone"),
        ("--network=host", "the network that its block names"),
        ("--publish=80:80", "the network that its block names"),
        ("--user=0", "belongs to the clone's owner"),
        ("--env=TOKEN=x", "the variables that its block names"),
        ("--env-file=.env", "the variables that its block names"),
        ("--oom-kill-disable", "within its memory"),
        ("--detach", "is followed, and ends with it"),
        ("--name=mine", "is found by its label"),
        ("--device=/dev/sda", "no device of the machine"),
        ("--device=/dev/kfd:/dev/x", "no device of the machine"),
        ("--device=/dev/nvidia/../sda", "no device of the machine"),
        ("--device", "no device of the machine"),
    ],
)
def test_what_would_break_a_promise_is_refused_with_it(option, promise):
    """What opens the border is refused, and the promise is named."""
    with pytest.raises(UserError, match=rf"^options holds {option}, which would break a promise \(.*{promise}"):
        docker_options.check(["--ulimit=core=0", option])


@pytest.mark.parametrize(
    "option", ["--memory=9g", "--cpus=4", "--pids-limit=9", "--gpus=all", "--shm-size=1g", "--tmpfs=/tmp"]
)
def test_what_has_a_word_of_its_own_is_said_by_it(option):
    """What the project can say itself, so that a change reruns nothing, is not an option."""
    with pytest.raises(UserError, match="which says the same"):
        docker_options.check([option])


@pytest.mark.parametrize(
    "options",
    [
        ["-v/:/host"], ["-it"], ["--ulimit", "core=0"], ["ubuntu"], ["--ulimit=core=0 --privileged\n"], ["--"],
        ["--ulimit=${item}"], ["--Privileged"], [1], "--ulimit=core=0", ["--ulimit=core=0\u2028"],
    ],
)  # fmt: skip
def test_only_options_in_their_long_form_are_taken(options):
    """What Docker might read in another way, or as the image, is refused."""
    with pytest.raises(UserError, match=r"^options (holds|is)"):
        docker_options.check(options)


def test_the_options_that_are_refused_are_dockers():
    """Each name in the list is one that Docker knows, or knew, so that none is misspelt and passes."""
    names = {name for names in docker_options.REFUSED.values() for name in names.split()} | {*docker_options.BETTER}
    try:
        shown = subprocess.run(["docker", "run", "--help"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no Docker client here")
    hidden = {"net", "net-alias", "label-file", "privileged", "disable-content-trust", "kernel-memory"}
    assert not {name for name in names - hidden if f"--{name} " not in f"{shown.stdout} "}
