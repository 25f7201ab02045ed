"""The documents say what the code does: targets, variables, workflows, links."""

import os
import re
import subprocess

import pytest
import yaml

from scripts import settings
from scripts.pipeline import images, template
from scripts.project import ROOT

SHELLS_OWN = {
    *("BASE_IMAGE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_CERT"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("DOCKER_HOST", "DOCKER_SOCKET", "YES", "CI", "WAIT", "KEEP_GOING", "SEED", "STOP_AT"),
    *(
        "MODEL",
        "VERSION",
        "ALIAS",
        "WHY",
        "CMD",
        "FROM",
        "BASE",
        "STAGE",
        "JSON",
        "MD",
        "NAME",
        "AFTER",
        "LIKE",
        "EXPERIMENT",
        "NEW",
    ),
}
TITLE = "# Dockerized DVC stages, driven by make\n"
ROOMS = sorted((ROOT / "scripts").glob("*/targets.mk"))
"""The targets of optional rooms."""
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))


def tracked(pattern):
    """The files of the project, without what git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", pattern]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).exists()]


def targets(*files):
    """The targets that a user may call, of these files or of all; `run-%` stands for one a stage."""
    texts = [path.read_text() for path in files or (ROOT / "Makefile", *ROOMS)]
    return {name for text in texts for name in re.findall(r"^([a-z][a-z%-]*):", text, re.MULTILINE)}


def optional():
    return targets(*ROOMS) if ROOMS else set()


OF_A_STAGE = ("run", "test", "debug", "notebook")
"""What `make` can do with one stage, as in `make run-train`."""


def exists(target):
    stages = [*images.stage_names(), "<stage>"]
    return target in targets() or target in {f"{verb}-{stage}" for verb in OF_A_STAGE for stage in stages}


def blocks(text, language=r"[^\n]*"):
    """The lines of the code blocks of a Markdown text, of those in one language."""
    fenced = re.findall(rf"^ *```({language})\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    return [line for _, block in fenced for line in block.splitlines()]


def spans(text):
    """The code spans of a Markdown text, outside its code blocks."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [span.strip() for span in re.findall(r"`([^`]+)`", prose)]


def made(text):
    """The targets that a Markdown text calls in code spans and in blocks of a shell, as in `NAME=value make a b`."""
    parts = [part for line in blocks(text, "sh|bash|shell|console") for part in re.split(r"&&|\|\||[;|]", line)]
    found = set()
    for command in [*spans(text), *(re.sub(r"^[\s$]*", "", part) for part in parts)]:
        match = re.match(r"(?:[A-Z_]+=\S* +)*make((?: +[^\s#&|;]+)*)", command)
        for word in match[1].split() if match else ():
            if not (word.startswith("-") or "=" in word):
                found.add(word)
    return found


def set_by_users(text):
    """The variables that a Markdown text tells a user to set: `NAME=...` in code, or `A_NAME` alone."""
    assigned = {name for code in blocks(text) + spans(text) for name in re.findall(r"\b([A-Z][A-Z0-9_]+)=", code)}
    alone = {span for span in spans(text) if re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", span)}
    return assigned | alone


@pytest.fixture
def readme():
    path = ROOT / "README.md"
    assert path.exists(), "README.md is missing"
    text = path.read_text()
    if not text.startswith(TITLE):
        pytest.skip(f"README.md begins with another title than {TITLE!r}: it is a fork's own")
    return text


# --- Targets --------------------------------------------------------------------------------------------------------


def test_the_readme_names_every_target(readme):
    """Whatever make can do without optional rooms stands in the README, as `make <target>`."""
    named = made(readme)
    lacking = {target for target in targets(ROOT / "Makefile") if target not in named}
    for verb in OF_A_STAGE:
        if f"{verb}-<stage>" in named:
            lacking.discard(f"{verb}-%")
    assert lacking == set()


def test_the_readme_names_no_target_that_is_not_there(readme):
    """Each `make <target>` of the README works, also without the optional rooms."""
    assert {name for name in made(readme) if not exists(name) or name in optional()} == set()


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: path.parent.name)
def test_a_document_names_every_target_of_a_room(room):
    """Whatever an optional room can do stands in a document at the top that is about it."""
    named = [made(path.read_text()) for path in sorted(ROOT.glob("*.md"))]
    assert any(targets(room) <= each for each in named)


def test_reading_a_markdown_text():
    """The check finds targets in spans and blocks, and does not take prose or a drawing for them."""
    text = (
        "Then `make run` and `YES=1 make clean-all`; make it so: `Makefile` `make`\n\n"
        "```console\n$ make -s down ui # make no\n$ cd x && make lint\n```\n\n"
        "```text\nmake -- a runner\nTHAT=1\n```\n\nSet `THIS_ONE`, not `THAT` or `this_one`.\n"
    )
    assert made(text) == {"run", "clean-all", "down", "ui", "lint"}
    assert set_by_users(text) == {"YES", "THAT", "THIS_ONE"}


def test_help_lists_every_target():
    """`make` and `make help` show each target with what it does."""
    known = subprocess.run(["make", "--print-data-base", "--dry-run", "help"], cwd=ROOT, capture_output=True, text=True)
    phony = set(re.search(r"^\.PHONY: (.*)$", known.stdout, re.MULTILINE)[1].split()) - {"always"}
    shown = [subprocess.run(["make", *words], cwd=ROOT, capture_output=True, text=True) for words in ([], ["help"])]
    assert [done.returncode for done in shown] == [0, 0], shown[0].stderr
    assert shown[0].stdout == shown[1].stdout
    listed = dict(re.findall(r"^  make (\S+) +(\S.*)$", shown[1].stdout, re.MULTILINE))
    assert phony and phony - listed.keys() == set()
    assert targets() - phony - {"always"} == {f"{verb}-%" for verb in OF_A_STAGE}
    assert {f"{verb}-<stage>" for verb in OF_A_STAGE} <= listed.keys()


# --- Variables ------------------------------------------------------------------------------------------------------


def test_every_variable_of_the_example_is_read():
    """.env.example offers nothing that has no effect."""
    files = [*tracked("scripts"), *tracked("stages"), *(ROOT / name for name in ("docker-compose.yml", "Makefile"))]
    files = [path for path in [*files, ROOT / template.TEMPLATE] if not path.name.startswith(("test_", "requirements"))]
    text = "\n".join(path.read_text() for path in files if path.suffix != ".md")
    common = {f"STAGE_{limit}" for limit in settings.LIMITS}  # put together from two halves
    common |= {"AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"}  # read by botocore, below DVC
    common |= {"DOWNLOAD_TIMEOUT", "DOWNLOAD_MEGABYTES"}  # read by the example's ingest, which a fork need not have
    names = settings.read_dotenv(ROOT / ".env.example")
    assert names and {name for name in names if name not in common and not re.search(rf"\b{name}\b", text)} == set()


def test_no_room_hides_a_setting_of_all():
    """What an optional room calls its own, other commands do not see: nothing of .env.example is a room's."""
    common = settings.read_dotenv(ROOT / ".env.example").keys()
    assert {room: names.keys() & common for room, names in settings.of_rooms().items() if names.keys() & common} == {}


def test_every_variable_of_the_readme_is_known(readme):
    """What the README tells to set is in .env.example, or one of the shell's."""
    known = SHELLS_OWN | settings.read_dotenv(ROOT / ".env.example").keys()
    told = set_by_users(readme) - set(re.findall(r"[A-Z][A-Z0-9_]+", (ROOT / "dvc.yaml").read_text()))
    limits_of_a_stage = {
        name for name in told if name.endswith(tuple(f"_{limit}" for limit in (*settings.LIMITS, *settings.OF_SOME)))
    }
    assert told - known - limits_of_a_stage == set()


# --- doctor ---------------------------------------------------------------------------------------------------------


def test_what_the_readme_quotes_of_doctor_is_what_it_says(readme):
    """Each `BAD <line> ... <words>` of the README is a line of `make doctor`, with these words of its own."""
    source = "".join(path.read_text() for path in [*(ROOT / "scripts/checks").glob("*.py"), ROOT / "scripts/faults.py"])
    quoted = [re.fullmatch(r"BAD (\w+) \.\.\. (.*)", span) for span in spans(readme) if span.startswith("BAD ")]
    assert len(quoted) >= 4 and all(quoted)
    assert [found[0] for found in quoted if f'"{found[1]}"' not in source or found[2] not in source] == []


# --- CI -------------------------------------------------------------------------------------------------------------


def test_there_is_a_workflow():
    """CI is part of the project."""
    assert WORKFLOWS, ".github/workflows lacks a workflow"


def calls(runs):
    """Return the targets of make and the files of .ci/ that steps call; the step itself where it is neither."""
    for run in runs:
        if re.fullmatch(r"make( [a-z][a-z-]*)+", run):
            yield from run.split()[1:]
        else:
            match = re.fullmatch(r'(\.ci/[a-z]+)( [\w./]+| "\$[A-Z]+")*', run)
            yield match[1] if match else run


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_pinned_confined_and_calls_make(path):
    """A workflow may read alone, pins each action by commit, and runs nothing but make's targets and .ci/."""
    workflow = yaml.safe_load(path.read_text())
    jobs = workflow["jobs"].values()
    assert [each.get("permissions") for each in (workflow, *jobs)] == [{"contents": "read"}, *(None for _ in jobs)]
    assert "pull_request_target" not in (workflow.get("on") or workflow[True])  # YAML 1.1 reads `on` as true
    steps = [*jobs, *(step for job in jobs for step in job.get("steps", []))]
    uses = [step["uses"] for step in steps if "uses" in step]
    assert [use for use in uses if not (use.startswith("./") or re.fullmatch(r"[^@\s]+@[0-9a-f]{40}", use))] == []
    called = list(calls(step["run"].strip() for step in steps if "run" in step))
    assert called and [call for call in called if not (exists(call) or (ROOT / call).is_file())] == []
    checkouts = [step.get("with", {}) for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert {each.get("persist-credentials") for each in checkouts} == {False}


def test_the_file_for_gitlab():
    """What is to be copied for GitLab is YAML, and calls what there is."""
    jobs = yaml.safe_load((ROOT / ".gitlab-ci.yml.example").read_text())
    scripts = [line for job in jobs.values() for key in ("script", "after_script") for line in _lines(job, key)]
    words = re.findall(r"(?:^|; )(make [a-z -]+|\.ci/[a-z]+)", "\n".join(scripts), re.MULTILINE)
    called = list(calls(words))
    assert {"test", "lint", ".ci/pipeline"} <= {*called}
    assert [call for call in called if not (exists(call) or (ROOT / call).is_file())] == []


def _lines(job, key):
    return job.get(key, []) if isinstance(job, dict) else []


def test_ci_runs_all_tests(tmp_path):
    """.ci/run, from any folder, is `make test` in the project's."""
    (tmp_path / "make").write_text('#!/bin/sh\necho "$(pwd -P): make $*"\n')
    (tmp_path / "make").chmod(0o755)
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([str(ROOT / ".ci" / "run")], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{ROOT}: make test\n"), done.stderr


# --- The rest -------------------------------------------------------------------------------------------------------


def test_every_relative_link_leads_somewhere(readme):
    """No document points to a file that is not there."""
    broken = []
    for path in tracked("*.md"):
        prose = re.sub(r"^ *(```|~~~).*?^ *\1|`[^`\n]*`", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        found = re.findall(r"\]\(\s*<?([^)\s>]+)|^\[[^\]]+\]:\s*<?([^\s>]+)", prose, re.MULTILINE)
        for link in ("".join(pair) for pair in found):
            target = link.partition("#")[0]
            if target and not re.match(r"[a-z][a-z+.-]*:", target) and not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)}: {link}")
    assert broken == []
