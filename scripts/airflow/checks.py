"""What `make doctor` says of Airflow: nothing in a clone that has none."""

from collections.abc import Callable, Iterator

from scripts.airflow import services
from scripts.airflow.api import Api
from scripts.checks.check import Check
from scripts.project import PROJECT, Project


def airflow(project: Project = PROJECT) -> Iterator[Check]:
    """Check that each service that was started answers. `make run` needs none of them, so none is BAD."""
    names = services.started(project)
    if not names:
        return
    if not any(map(services.container, names)):
        yield Check("Airflow", True, "stopped: 'make airflow' starts it")
        return
    lost = [services.NAMES[name] for name in names if not services.container(name)]
    lost = lost or services.Services({}, names, project).missing(Api(project))
    used = f"all of it answers, with {services.memory() >> 20} MB of memory"
    found = f"no answer from {', '.join(lost)}" if lost else used
    yield Check("Airflow", not lost or None, found, "expected all of it: 'make airflow' starts it again")


CHECKS: tuple[Callable[[], Iterator[Check]], ...] = (airflow,)
