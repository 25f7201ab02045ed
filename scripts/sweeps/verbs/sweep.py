"""`make sweep`: tries parameters, and says which are best by a score that spends no test data. Registers nothing."""

import os
import time
from collections.abc import Mapping

from scripts import mlflow_server, places, settings
from scripts.pipeline import build, dvc_adapter, elsewhere, execution, images, params, template
from scripts.pipeline.console import tell
from scripts.pipeline.elsewhere import Place
from scripts.pipeline.stage import Pipeline
from scripts.project import PROJECT, Project, UserError
from scripts.sweeps import cleaning, page, running, sampling, spec, study, tracking
from scripts.sweeps.elsewhere import Elsewhere
from scripts.sweeps.running import Runner
from scripts.sweeps.spec import Spec, Target
from scripts.sweeps.study import Study
from scripts.sweeps.table import Table, summary


def main(arguments: list[str], project: Project = PROJECT) -> None:
    given = dict(argument.split("=", 1) for argument in arguments)
    if given.get("rm"):
        tell(cleaning.remove(project, given["rm"]))
        return
    began = time.monotonic()
    wanted = images.load()
    pipeline = template.load(images=wanted)
    template.write(pipeline)
    places.check_paths(pipeline.paths, os.environ)
    file = given.get("file") or spec.FILE
    sweep = spec.read(project.root / file)
    target = spec.target_of(sweep, pipeline, project)
    spec.check(sweep, target, pipeline, params.read_params(project.params), wanted, project.root)
    place = elsewhere.place(given["on"], pipeline, project) if given.get("on") else None
    hashes = given_files(project)
    found = begin(sweep, target, pipeline, file, hashes, project)
    if found.ended and found.tracked:
        tell(f"sweep {found.id} has ended before: nothing to run")
    else:
        prepare(pipeline, wanted, project)
        tell(f"sweep {found.id}: {found.planned} trials, {found.goal} {found.metric} of {target.file}")
        if target.test_data:
            tell(on_test_data(found, target))
        with tracking.Tracker(project, pipeline, found) as tracker, Table(found) as table:
            if not found.ended:
                run(sweep, target, pipeline, found, hashes, table, place, project)
        for note in tracker.notes:
            tell(f"note: {note}")
        tell(f"took {time.monotonic() - began:.0f} s")
    tell("\n".join(last_lines(found, project)))


def on_test_data(found: Study, target: Target) -> str:
    return (
        f"note: {target.stage} measures {found.metric} on the test data ({', '.join(target.test_data)}): the best of "
        f"{found.planned} looks better there than it is, and the gate will believe it; better: a score that spends no "
        "test data, as SWEEPS.md shows"
    )


def given_files(project: Project) -> dict[str, str]:
    """Return the hashes of the files that the pipeline reads and no stage makes."""
    with dvc_adapter.errors(), dvc_adapter.repository(project.root) as repo, repo.lock:
        return dvc_adapter.given(repo, dvc_adapter.plan(repo, []))


def begin(
    sweep: Spec, target: Target, pipeline: Pipeline, file: str, hashes: Mapping[str, str], project: Project
) -> Study:
    """Return the sweep: as far as it came, if it was begun before."""
    values = running.parameters(pipeline)
    name = study.identity(sweep, target, pipeline.text, values, hashes)
    found = study.load(study.folder(project, name))
    if found is None:
        return study.new(sweep, target, file, name, values)
    if not found.ended and found.outcomes:
        tell(f"sweep {found.id} goes on: {len(found.outcomes)} of {found.planned} trials are known")
    return found


def prepare(pipeline: Pipeline, wanted: Mapping[str, images.Image], project: Project) -> None:
    """See to all that trials need and do not look for themselves: images, and MLflow if a stage calls it."""
    blocks = {stage.block for stage in pipeline.stages.values()}
    build.ensure({name: image for name, image in wanted.items() if name in {images.BASE, *blocks}}, project)
    if not settings.is_local(os.environ):
        return
    needed = any(stage.network == "mlflow" for stage in pipeline.stages.values())
    try:
        if mlflow_server.start() and needed:
            mlflow_server.wait()
    except UserError as error:
        if needed:
            raise
        tell(f"note: {error}")


def run(
    sweep: Spec, target: Target, pipeline: Pipeline, found: Study, hashes: Mapping[str, str], table: Table,
    place: Place | None, project: Project,
) -> None:  # fmt: skip
    """Run what is to be run of the sweep. Raise UserError if it cannot go on, or if no trial has a score."""
    jobs = execution.jobs()
    about = (project, pipeline, found, target, hashes, params.text_of(project.params))
    shown = (table.ended, table.goes_on)
    runner = Elsewhere(*about, 1, *shown, place=place) if place else Runner(*about, jobs, *shown)
    found.trials = []
    try:
        runner.open()
        study.save(found, project)
        with sampling.Sampler(sweep, sampling.command(sampling.ensure_image().tag)) as sampler:
            while points := sampler.batch():
                runner.run(found.add(points))
                sampler.tell([trial.score for trial in found.trials[-len(points) :]])
            found.importance = sampler.importance
        if found.best is None:
            raise UserError(f"all {len(found.trials)} trials failed; the first one: {found.trials[0].outcome.sentence}")
        runner.score_all(found.best)
        found.scored, found.ended = found.best.number, study.now()
        study.save(found, project)
    finally:
        runner.close()
        page.write(found, project)


def last_lines(found: Study, project: Project) -> list[str]:
    where = (study.folder(project, found.id) / study.PAGE).relative_to(project.root)
    return ["", *summary(found), f"page      {where}", "next      make keep, then make run"]
