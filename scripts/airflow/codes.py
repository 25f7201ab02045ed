"""How a task ends: the exit codes of scripts/airflow/task.sh, which writes them out as well.

Only TEMPORARY is worth another try. The numbers are those of sysexits.h, but for 1.
"""

from collections.abc import Sequence

from scripts.project import Unavailable, UserError

OK = 0
FAULT = UserError.code
"""1: bad input, a limit of memory or time, a crash of the stage, a setting that cannot work: the same the next time."""
NOT_DETERMINISTIC = 65
"""The remote has another result of the same command and inputs."""
OTHER_STAGE = 66
"""Another stage than the task's own would have to run."""
TEMPORARY = Unavailable.code
"""75: the engine, the remote, the registry, the network, or a runner that was killed."""


class NotDeterministic(UserError):
    """A stage has two results."""

    code = NOT_DETERMINISTIC

    def __init__(self, stage: str, outputs: Sequence[tuple[str, str, str]]) -> None:
        differ = ", ".join(f"{path} ({one} and {other})" for path, one, other in outputs)
        super().__init__(
            f"stage {stage} is not deterministic: DVC's run-cache knows two results of the same command and inputs, "
            f"which differ in {differ}; expected the same bytes each time: 'make check' says what could be the cause"
        )


class OtherStage(UserError):
    """Another stage than the task's own would have to run."""

    code = OTHER_STAGE

    def __init__(self, task: str, stages: Sequence[str]) -> None:
        super().__init__(
            f"for {task} another stage would have to run: {', '.join(stages)}; expected its result on DVC's remote, "
            "which its own task pushes: run that one first"
        )
