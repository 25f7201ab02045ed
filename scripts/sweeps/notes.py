"""How many trials stood behind a model: for the record of the decision on it."""

from scripts.pipeline.stage import Model, Pipeline
from scripts.project import Project
from scripts.sweeps import running, study
from scripts.sweeps.study import Study, Trial


def note(project: Project, pipeline: Pipeline, model: Model) -> str:
    """Return `best of 24 by cv_accuracy` if the model's parameters are those of a sweep's best trial, or of one that
    was kept by its number; nothing if they are not."""
    now = running.parameters(pipeline)
    blocks = {pipeline.stages[name].block for name in pipeline.leading_to(model.maker)}
    for found in reversed(list(study.studies(project))):
        if not blocks & {name.partition(".")[0] for name in found.parameters}:
            continue
        if trial := _trial(found, {name: str(value) for name, value in now.items()}):
            count = len([each for each in found.trials if each.score is not None and each.same_as is None])
            which = "best" if trial is found.best else f"trial {trial.number}"
            return f"{which} of {count} by {found.metric} (sweep {found.id})"
    return ""


def _trial(found: Study, now: dict[str, str]) -> Trial | None:
    """Return the trial that was chosen from a sweep and has these parameters, as texts."""
    chosen = [found.best, *(found.trial(number) for number in found.kept)]
    for trial in filter(None, chosen):
        if {name: str(value) for name, value in (found.base | trial.values).items()} == now:
            return trial
    return None
