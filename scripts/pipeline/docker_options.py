"""What a block may say of `docker run` in its own words: all but what would open the border of SECURITY.md."""

import re
from collections.abc import Sequence

from scripts.project import UserError

OPTION = re.compile(r"--([a-z][a-z0-9-]*)(?:=(.*))?", re.DOTALL)
REFUSED = {
    "a stage's container may do nothing that a plain program need not do": (
        "privileged cap-add security-opt userns cgroupns cgroup-parent device-cgroup-rule runtime isolation group-add"
    ),
    "a stage sees no process, memory or name of another container or of the host": "pid ipc uts link",
    "a stage sees its inputs and its own outputs alone": "mount volume volumes-from volume-driver read-only",
    "a stage has the network that its block names, and nothing reaches it": (
        "network net network-alias net-alias publish publish-all expose ip ip6 mac-address link-local-ip"
    ),
    "what a stage makes belongs to the clone's owner": "user",
    "a stage sees the variables that its block names": "env env-file",
    "a stage stays within its memory": (
        "memory-swap memory-reservation memory-swappiness kernel-memory oom-kill-disable oom-score-adj"
    ),
    "what a stage prints is followed, and ends with it": "detach detach-keys attach interactive tty sig-proxy log-opt",
    "each container is found by its label, and goes when its stage ends": (
        "rm name label label-file cidfile restart init stop-signal stop-timeout"
    ),
    "a stage runs in its own image, which is built here": "pull platform disable-content-trust",
}
"""The promises that an option would break, with the options' names."""
BETTER = {
    "memory": "STAGE_MEMORY of .env",
    "cpus": "STAGE_CPUS of .env",
    "pids-limit": "STAGE_PIDS of .env",
    "gpus": 'gpus="all"',
    "shm-size": 'shm="1g"',
    "tmpfs": 'tmp="8g"',
    "env": 'env=["NAME"]',
    "network": "network=",
}
"""What says the same in the project's own way."""
DEVICES = re.compile(r"/dev/(kfd|dri|dxg|accel|infiniband|nvidia)[\w/-]*")
"""Devices that compute: what a stage may have of the machine beside its limits."""


def check(options: Sequence[str]) -> None:
    """Raise UserError, with the promise that it would break, for an option that a stage may not have."""
    if isinstance(options, str) or not all(isinstance(option, str) for option in options):
        raise UserError('options is no list of texts; expected one like ["--ulimit=memlock=-1"]: correct it')
    for option in options:
        match = OPTION.fullmatch(option)
        if not match or "${" in option or not option.isprintable():
            raise UserError(
                f"options holds {option!r}; expected an option in its long form, value and all: --ulimit=core=0"
            )
        name, value = match[1], match[2] or ""
        if name in BETTER and name not in ("env", "network"):
            raise UserError(f"options holds {option}; expected {BETTER[name]}, which says the same: write that")
        for promise, names in REFUSED.items():
            if name in names.split():
                better = f", or {BETTER[name]}" if name in BETTER else ""
                raise UserError(
                    f"options holds {option}, which would break a promise ({promise}); leave it out{better}"
                )
        if name == "device" and not DEVICES.fullmatch(value):
            raise UserError(
                f"options holds {option}, which would break a promise (a stage reaches no device of the machine but "
                "those that compute); leave it out"
            )
