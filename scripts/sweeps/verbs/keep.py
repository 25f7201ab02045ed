"""`make keep`: writes a trial's values into params.yaml; the ordinary run then publishes it, through the one gate."""

from scripts.pipeline import params, template
from scripts.pipeline.console import tell
from scripts.project import PROJECT, Project, UserError, atomic_write
from scripts.sweeps import running, study, values
from scripts.sweeps.study import Study, Trial


def chosen(found: Study, number: str) -> Trial:
    """Return the trial of this number, the best one if it is empty. Raise UserError if there is none with a score."""
    if not number:
        if found.best is None:
            raise UserError(f"no trial of sweep {found.id} has a score; expected one: 'make sweep' goes on with it")
        if not found.ended:
            tell(f"note: sweep {found.id} has not ended; the best trial so far is kept ('make sweep' goes on)")
        return found.best
    trial = found.trial(int(number)) if number.isdecimal() else None
    if trial is None or trial.score is None:
        why = f"failed ({trial.outcome.sentence[:200]})" if trial and trial.outcome else "is not there"
        raise UserError(
            f"trial {number[:20]} of sweep {found.id} {why}; expected one with a score, 1 to {len(found.trials)}: "
            "correct TRIAL"
        )
    return trial


def differing(found: Study, project: Project) -> list[str]:
    """Return the parameters that are not tried and are not what they were in the sweep."""
    now = running.parameters(template.load(project.root))
    names = {*now, *found.base} - {*found.parameters}
    return sorted(name for name in names if str(now.get(name)) != str(found.base.get(name)))


def main(arguments: list[str], project: Project = PROJECT) -> None:
    given = dict(argument.split("=", 1) for argument in arguments)
    found = study.named(project, given.get("sweep", ""))
    trial = chosen(found, given.get("trial", ""))
    text = params.text_of(project.params)
    new = values.written(text, trial.values)
    if new != text:
        atomic_write(project.params, new)
    if trial is not found.best and trial.number not in found.kept:
        found.kept.append(trial.number)
        study.save(found, project)
    lines = [
        f"params.yaml has the values of trial {trial.number} of sweep {found.id}, {found.metric} {trial.score:.6g}:"
    ]
    lines += [f"  {name}: {params.as_written(value)}" for name, value in trial.values.items()]
    if others := differing(found, project):
        lines.append(f"note: in the sweep other parameters had other values ({', '.join(others)}): stages will run")
    lines.append("next: make run" + ("" if others or trial.number == found.scored else ", which scores it"))
    tell("\n".join(lines))
