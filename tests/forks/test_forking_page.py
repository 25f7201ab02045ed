"""FORKING.md: each of its recipes, typed as it stands into a clone of its own."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.project import ROOT
from tests.conftest import NOTHING, Clone, new_clone, stages_line, wait_until
from tests.dagshub.stand_in import docker, network_of
from tests.engine.servers import logs

PAGE = ROOT / "FORKING.md"
QUICK = ("your-data-and-your-target",)
"""What `make test` has time for."""
OF_ROOMS = {"use-the-model": "serving"}
"""Recipes that need an optional room."""
TYPED = {"a-debugger": "break fit\ncontinue\nquit\n"}
"""What is typed into what a recipe starts."""
ADDRESS = "https://example.com"
EDITED = re.compile(r"stages/.+|dvc\.yaml(\.template)?|dvc\.lock|params\.yaml|data/.+|(\w+/)?\.gitignore|README\.md")
"""All that a recipe edits, or a run writes: DVC hides outputs from git where nobody else did."""
AUTHOR = {f"GIT_{role}_{what}": "test@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
FENCE = re.compile(r"(?:^`([^`\n]+)`:\n\n?)?^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KINDS = ("sh", "text", "diff")

SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        allowed = not self.path.startswith("/private/") or self.headers["Authorization"] == "Bearer not-for-git"
        self.send_response(200 if allowed else 401)
        self.end_headers()
        if allowed:
            self.wfile.write(os.environb[b"BODY"])
server = http.server.ThreadingHTTPServer(("", 8000), Handler)
print("listening", flush=True)
server.serve_forever()
"""


@dataclass(frozen=True)
class Block:
    """A block of the page; `path` is the file that it is, whole."""

    kind: str
    text: str
    path: str | None


@dataclass(frozen=True)
class Recipe:
    """A section of the page; `after` is the one that it goes on from."""

    blocks: list[Block]
    after: str | None


def recipes(page: str) -> dict[str, Recipe]:
    """Return the recipes of the page, those that have blocks, by their headings as links write them."""
    sections = re.split(r"^## (.+)\n", page, flags=re.MULTILINE)
    found = {}
    for heading, section in zip(sections[1::2], sections[2::2], strict=True):
        blocks = [Block(kind, code, path or None) for path, kind, code in FENCE.findall(section)]
        after = re.search(r"^After \[[^\]]*\]\(#([^)]*)\)", section, re.MULTILINE)
        if blocks:
            name = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
            found[name] = Recipe(blocks, after[1] if after else None)
    return found


RECIPES = recipes(PAGE.read_text()) if PAGE.exists() else {}


def steps(name: str) -> list[Block]:
    """Return what a recipe says from a fresh clone on."""
    recipe = RECIPES[name]
    return [*(steps(recipe.after) if recipe.after else []), *recipe.blocks]


@dataclass(frozen=True)
class Followed:
    """A clone in which a recipe was followed, and what its blocks printed."""

    name: str
    clone: Clone
    printed: str

    def touched(self) -> list[str]:
        """Return the files that differ from those of the repository, committed or not."""
        tracked = self.clone.git("diff", "--name-only", "origin/HEAD")
        return sorted({*tracked.splitlines(), *self.clone.changes()})

    def ran(self) -> list[str]:
        """Return the targets of the recipe that run stages in its clone."""
        blocks = [block.text for block in steps(self.name) if block.kind == "sh"]
        return [target for text in blocks for target in re.findall(r"^make .*?\b(run\b[\w-]*)", text, re.MULTILINE)]


def follow(blocks: list[Block], folder: Path, typed: str, variables: dict[str, str], address: str) -> str:
    """Do what the blocks say at the top of a clone; return all that was printed."""
    printed = last = ""
    environ = {key: value for key, value in os.environ.items() if key != "PWD"} | AUTHOR | variables
    for block in blocks:
        text = block.text.replace(ADDRESS, address)
        if block.path:
            (folder / block.path).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.path).write_text(text)
        elif block.kind == "text":
            missing = [line for line in text.splitlines() if line not in last]
            assert not missing, f"{missing} is not in what was printed:\n{last}"
        else:
            command, given = (["sh", "-euc", text], typed) if block.kind == "sh" else (["git", "apply", "-"], text)
            done = subprocess.run(
                command, cwd=folder, env=environ, input=given,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            assert done.returncode == 0, f"{text}\nended with {done.returncode}:\n{done.stdout}"
            last = done.stdout
            printed += last
    return printed


def data() -> str:
    """Return the file that the first recipe makes."""
    with tempfile.TemporaryDirectory() as folder:
        follow(next(iter(RECIPES.values())).blocks[:1], Path(folder), "", {}, ADDRESS)
        return next(Path(folder).rglob("*.csv")).read_text()


@contextmanager
def web_server(clone: Clone) -> Iterator[str]:
    """Serve the file of the first recipe to stages with a network; yield the server's address."""
    command = ["run", "--detach", "--init", "--label", clone.label, "--env", f"BODY={data()}"]
    server = docker(*command, os.environ["RUNNER_IMAGE"], "python", "-c", SERVER)
    try:
        wait_until(lambda: "listening" in logs(server), "the server listens")
        yield f"http://{docker('inspect', '--format', '{{.NetworkSettings.Networks.bridge.IPAddress}}', server)}:8000"
    finally:
        docker("rm", "--force", "--volumes", server)


@contextmanager
def s3_server(clone: Clone) -> Iterator[str]:
    """Serve the file of the first recipe from a bucket to a clone's runner; yield the server's address."""
    clone.make("shell", stdin="true\n")  # which makes its network
    network = network_of(clone)
    name, image = f"{network}-s3", f"stages/{network}:s3"
    build = ["buildx", "build", "--quiet", "--pull=false", "--label", clone.label, "--tag", image]
    for argument in ("PYTHON_IMAGE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        build += ["--build-arg", argument]
    docker(*build, str(ROOT / "tests/dagshub"))
    run = ["run", "--detach", "--init", "--label", clone.label, "--name", name, "--network", network]
    docker(*run, image, "moto_server", "--host", "0.0.0.0", "--port", "5000")
    try:
        wait_until(lambda: "Running on" in logs(name), "the server listens")
        clone.python(
            "import boto3\n"
            f"keys = dict(aws_access_key_id='any', aws_secret_access_key='any', region_name='us-east-1')\n"
            f"bucket = boto3.resource('s3', endpoint_url='http://{name}:5000', **keys).Bucket('my-bucket')\n"
            "bucket.create()\n"
            f"bucket.put_object(Key='customers.csv', Body={data().encode()!r})\n"
        )
        yield f"http://{name}:5000"
    finally:
        docker("rm", "--force", "--volumes", name)
        docker("image", "rm", "--force", image)


@pytest.fixture(
    scope="module", params=[name if name in QUICK else pytest.param(name, marks=pytest.mark.deep) for name in RECIPES]
)
def followed(request: pytest.FixtureRequest) -> Iterator[Followed]:
    """Follow a recipe in a clone of its own."""
    if request.param in OF_ROOMS and not (ROOT / "scripts" / OF_ROOMS[request.param]).is_dir():
        pytest.skip("the optional room that the recipe is about is not here")
    clone, blocks = new_clone(f"recipe-{request.param}", of=ROOT), steps(request.param)
    with ExitStack() as servers:
        asked = "".join(block.text for block in blocks)
        address = servers.enter_context(web_server(clone)) if ADDRESS in asked else ADDRESS
        variables = {"AWS_ENDPOINT_URL": servers.enter_context(s3_server(clone))} if "s3://my-" in asked else {}
        printed = follow(blocks, clone.path, TYPED.get(request.param, ""), variables, address)
    yield Followed(request.param, clone, printed)
    clone.make("down")


@pytest.mark.docker
def test_a_recipe_edits_nothing_of_the_machinery(followed: Followed) -> None:
    """A recipe touches what one edits in a fork, and nothing else: no file below scripts/ or tests/."""
    touched = followed.touched()
    assert [path for path in touched if not EDITED.fullmatch(path)] == []


@pytest.mark.docker
def test_every_model_of_a_recipe_is_in_production(followed: Followed) -> None:
    """A recipe that runs the whole pipeline ends with each of its models in production."""
    decisions = re.findall(r"^decision +(.*)", followed.printed, re.MULTILINE)
    assert [decision for decision in decisions if not decision.startswith("Production")] == []
    assert decisions or "run" not in followed.ran()


@pytest.mark.docker
def test_a_second_run_has_nothing_to_do(followed: Followed) -> None:
    """What a recipe ran last is up to date after it."""
    for target in followed.ran()[-1:]:
        assert stages_line(followed.clone.make(target)) == NOTHING


@pytest.mark.docker
def test_the_tests_of_the_stages_that_a_recipe_touches_pass(followed: Followed) -> None:
    """The tests of each stage that a recipe edits or adds pass in that stage's image."""
    folders = {path.split("/")[1] for path in followed.touched() if path.startswith("stages/")}
    for stage in sorted(folders):
        if (followed.clone.path / "stages" / stage).exists():
            followed.clone.make(f"test-{stage}")


@pytest.mark.docker
def test_the_stages_keep_their_contract(followed: Followed) -> None:
    """`make check` finds nothing in what a recipe made."""
    followed.clone.make("check")


@pytest.mark.docker
@pytest.mark.deep
def test_the_machinerys_tests_pass_after_a_recipe(followed: Followed) -> None:
    """Those that start no container, among them all that read stages, template and documents."""
    followed.clone.make("test-unit")


@pytest.mark.docker
@pytest.mark.parametrize("followed", QUICK[:1], indirect=True)
def test_other_data_is_a_small_edit(followed: Followed) -> None:
    """Other data with another target take an edit of four files at most, the data among them, and 40 lines."""
    written = [path for path in followed.touched() if path not in ("dvc.yaml", "dvc.lock")]
    counts = followed.clone.git("diff", "--numstat", "origin/HEAD", "--", *written).split()
    assert len(written) <= 4, written
    assert sum(map(int, counts[::3])) <= 40 >= sum(map(int, counts[1::3])), counts


@pytest.mark.docker
@pytest.mark.parametrize("followed", [pytest.param("a-secret-for-a-stage", marks=pytest.mark.deep)], indirect=True)
def test_a_secret_is_in_env_alone(followed: Followed) -> None:
    """What a recipe writes into .env for a stage is in no file that git has, and in none that a run left."""
    top = followed.clone.path
    left = [top / path for path in followed.touched()]
    left += [path for folder in (".local", ".dvc") for path in (top / folder).rglob("*") if path.is_file()]
    assert [path for path in [top / ".env", *left] if b"not-for-git" in path.read_bytes()] == [top / ".env"]


def test_no_block_of_the_page_is_left_unread() -> None:
    """Each block is in a recipe and of a kind that is read; each recipe has one that is typed."""
    blocks = [block for recipe in RECIPES.values() for block in recipe.blocks]
    assert len(blocks) * 2 == len(re.findall(r"^ *(?:```|~~~)", PAGE.read_text(), re.MULTILINE))
    assert [block for block in blocks if not (block.path or block.kind in KINDS)] == []
    assert RECIPES and [name for name in RECIPES if "sh" not in {block.kind for block in RECIPES[name].blocks}] == []


def test_reading_a_page() -> None:
    """A block under a file's name is that file, any other one is what its language says; a recipe may follow one."""
    page = "# Title\n\n## Your own\n\nSee `x`:\n\n```sh\nls\n```\n\n`a.py`:\n\n```python\n1\n```\n"
    page += "\n## Next\n\nAfter [it](#your-own).\n\n```text\na.py\n```\n\n## Last\n\nText.\n"
    first = Recipe([Block("sh", "ls\n", None), Block("python", "1\n", "a.py")], None)
    second = Recipe([Block("text", "a.py\n", None)], "your-own")
    assert recipes(page) == {"your-own": first, "next": second}
