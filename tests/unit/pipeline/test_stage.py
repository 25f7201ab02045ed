"""A stage's description: its `docker run`, its mounts, and what it needs; and the pipeline that stages form."""

import shlex
import subprocess

import pytest

from scripts.pipeline.stage import LONGEST, Mount, Pipeline, Stage, check_path, prefix
from scripts.project import UserError

STAGE = Stage(
    "my-stage",
    "stages/my-stage:1",
    inputs={"raw": "data/in/my r.csv"},
    outputs={"out": "data/a/x.csv"},
    metrics={"metrics": "data/a/deep/m.json"},
    network="mlflow",
    env=["TOKEN"],
    section={"seed": 1},
)
COMMAND = """\
timeout --foreground --kill-after 10 "$MY_STAGE_TIMEOUT" \\
  docker run --rm --init --pull never --log-driver none \\
  --label "pipeline.clone=$CLONE" --label pipeline.stage=my-stage \\
  --user "$STAGE_USER" --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \\
  --memory "$MY_STAGE_MEMORY" --cpus "$MY_STAGE_CPUS" --pids-limit "$MY_STAGE_PIDS" --network "$MLFLOW_NETWORK" \\
  --env TOKEN \\
  --env HTTP_PROXY --env HTTPS_PROXY --env NO_PROXY --env http_proxy --env https_proxy --env no_proxy \\
  --mount "type=bind,src=$PWD/data/in/my r.csv,dst=/work/data/in/my r.csv,readonly" \\
  --mount "type=bind,src=$PWD/.local/work/my-stage/data/a,dst=/work/data/a" \\
  stages/my-stage:1 \\
  --raw 'data/in/my r.csv' \\
  --out data/a/x.csv \\
  --metrics data/a/deep/m.json \\
  ${my-stage}"""


def stage(name, reads=(), writes=None):
    """Return a stage that reads files and writes one, by default NAME/out."""
    inputs = {f"i{number}": path for number, path in enumerate(reads)}
    return Stage(name, f"stages/{name}:1", inputs, {"out": writes or f"{name}/out"})


def pipeline(*stages):
    return Pipeline("", {each.name: each for each in stages})


# --- the command


def test_the_command_is_this_text():
    """DVC compares commands as text: any other text than this makes every stage of every clone run again."""
    assert STAGE.command() == COMMAND
    assert STAGE.commands() == [
        'test "$CLONE" || { echo "error: stages run in the project\'s runner: call \'make run\'"; exit 1; }\n'
        "rm -rf .local/work/my-stage && mkdir -p .local/work/my-stage/data/a",
        COMMAND,
        "python -m scripts.pipeline.takeover my-stage data/a/x.csv data/a/deep/m.json",
    ]


def test_an_input_in_the_output_folder_has_a_place_to_be_mounted_at():
    """Docker would make the folders around it as root, which a person could not delete."""
    reads = Stage("a", "stages/a:1", {"i": "data/deep/in.csv"}, {"out": "data/out.csv"})
    *_, folder = reads.commands()[0].splitlines()
    assert folder == "rm -rf .local/work/a && mkdir -p .local/work/a/data .local/work/a/data/deep"


def test_the_command_is_what_the_shell_makes_of_it(docker, monkeypatch, tmp_path):
    """The shell splits the command into the arguments that are meant, whatever the clone's folder is called."""
    for name in ("MEMORY", "CPUS", "PIDS"):
        monkeypatch.setenv(f"MY_STAGE_{name}", name.lower())
    for name, value in {"MY_STAGE_TIMEOUT": "10", "STAGE_USER": "1:2", "MLFLOW_NETWORK": "net"}.items():
        monkeypatch.setenv(name, value)
    (folder := tmp_path / "a clone's $HOME").mkdir()
    docker.does("run", f"for word; do echo \"<$word>\"; done > '{tmp_path}/words'")
    subprocess.run(["sh", "-c", STAGE.command().replace("${my-stage}", "--seed 1")], cwd=folder, check=True)
    words = [line[1:-1] for line in (tmp_path / "words").read_text().splitlines()]
    assert f"type=bind,src={folder}/data/in/my r.csv,dst=/work/data/in/my r.csv,readonly" in words
    assert words[words.index("--user") + 1] == "1:2" and words[words.index("--network") + 1] == "net"
    assert words[words.index("stages/my-stage:1") + 1 :] == [
        "--raw", "data/in/my r.csv", "--out", "data/a/x.csv", "--metrics", "data/a/deep/m.json", "--seed", "1",
    ]  # fmt: skip


def test_proxies_go_only_to_a_stage_with_a_network():
    """A sealed stage is not told of a proxy: it could not reach it, and its address may hold a password."""
    sealed = Stage("a", "stages/a:1", outputs={"out": "a/x"})
    assert "PROXY" not in sealed.command() and "--network none" in sealed.command()


def test_other_mounts_network_and_variables_can_be_asked_for():
    """The same description gives the command of a container that is used otherwise, with nothing else changed."""
    words = shlex.split(
        STAGE.docker_run([Mount("x", "", True)], parameters="--seed 2", options="-i", network="none", env=())
    )
    assert words[:3] == ["docker", "run", "-i"]
    assert [word for word in words if word.startswith("type=bind")] == ["type=bind,src=$PWD/x,dst=/work,readonly"]
    assert words[words.index("--network") + 1] == "none" and "--env" not in words
    assert words[-2:] == ["--seed", "2"]
    assert set(shlex.split(COMMAND)) & {"--read-only", "ALL", "no-new-privileges", "$MY_STAGE_MEMORY"} <= set(words)


def test_the_time_limit_stops_a_client_that_ends_and_kills_one_that_does_not():
    """`timeout` runs in the foreground, so that an interrupt of the run reaches the client, too."""
    assert STAGE.in_time("docker run x").replace("\\\n", "").split() == [
        "timeout", "--foreground", "--kill-after", "10", '"$MY_STAGE_TIMEOUT"', "docker", "run", "x",
    ]  # fmt: skip


# --- files


@pytest.mark.parametrize(
    "folder", [".git", ".github", ".dvc", ".local", ".ci", ".devcontainer", ".vscode", "scripts", "stages"]
)
def test_no_stage_writes_where_code_is_run_from(folder):
    """An output among the machinery, the stages or git's own files is refused before anything runs."""
    with pytest.raises(UserError, match=rf"writes to {folder}/x; expected another folder than {folder}: rename it"):
        stage("a", writes=f"{folder}/x").check()


@pytest.mark.parametrize("files", [{"reads": ["notebooks/x"]}, {"writes": "notebooks/a/x"}, {"writes": "notebooks/x"}])
def test_no_stage_reads_or_writes_notebooks(files):
    """What a notebook writes is in no run: no stage reads it, and none takes its place."""
    with pytest.raises(UserError, match=r"'notebooks/.*x', and what a notebook writes is in no run; expected one"):
        stage("a", **files).check()


def test_a_command_that_linux_would_not_take_is_refused():
    """A stage may read so many files as a shell can be told of; of one that reads more it is said what to do."""
    files = [f"data/processed/s{number:04}/out" for number in range(1000)]
    says = r"its 1000 inputs has \d+ bytes; expected no more than 131071, .* a folder that"
    with pytest.raises(UserError, match=says):
        stage("a", files).check()
    longest = "x" * LONGEST
    assert subprocess.run(["true", longest], check=True).returncode == 0
    with pytest.raises(OSError, match="too long"):
        subprocess.run(["true", f"{longest}x"], check=True)


def test_the_output_folder_is_the_one_that_holds_all_outputs():
    """Outputs in several folders lie below one, which is what is mounted."""
    assert STAGE.folder == "data/a"
    own = Mount(".local/work/my-stage/data/a", "data/a", False)
    assert STAGE.mounts == [Mount("data/in/my r.csv", "data/in/my r.csv", True), own]


@pytest.mark.parametrize(
    ("mount", "text"),
    [
        (Mount("a/b", "c", True), '--mount "type=bind,src=$PWD/a/b,dst=/work/c,readonly"'),
        (Mount("a", "", False), '--mount "type=bind,src=$PWD/a,dst=/work"'),
        (Mount("", "c", False), '--mount "type=bind,src=$PWD,dst=/work/c"'),
    ],
)
def test_a_mount_is_an_option_of_docker(mount, text):
    """Source and target are below the project and below /work; an empty one is the folder itself."""
    assert str(mount) == text


def test_what_a_stage_writes_is_listed_by_argument_and_by_kind():
    """Outputs, metrics and plots are all written files."""
    assert STAGE.written == {"out": "data/a/x.csv", "metrics": "data/a/deep/m.json"}
    assert list(STAGE.made) == ["outs", "metrics", "plots"]


@pytest.mark.parametrize("path", ["a/b", "a/b/c.csv", "a b/ü.csv", "a/x@1+2=3-4_5.z"])
def test_paths_that_are_taken(path):
    """A path is below a folder of the clone; letters of any language, digits, spaces and ._+=@- may be in it."""
    check_path(path)


@pytest.mark.parametrize(
    "path",
    ["a", "/a/b", "../a/b", "a/../b", "a/./b", "a//b", "a/b/", "a/b:c", "a/b,c", 'a/"b', "a/$b", "a/b\n", "", 3, None],
)
def test_paths_that_are_refused(path):
    """What leaves the clone, names one file in two ways, or means something to Docker or the shell is refused."""
    with pytest.raises(UserError, match="expected one like folder/file inside the clone"):
        check_path(path)


def test_the_prefix_of_a_stages_limits():
    """Variables have no dashes and are upper-case."""
    assert STAGE.prefix == prefix("my-stage") == "MY_STAGE"


# --- the pipeline


def test_a_stage_needs_the_makers_of_its_inputs():
    """Each maker is named once, in the order of the inputs; a file that no stage makes needs none."""
    maker = Stage("two", "", outputs={"a": "two/a", "b": "two/b"})
    reader = stage("last", ["two/b", "data/x", "one/out", "two/a"])
    assert pipeline(stage("one"), maker, reader).needs("last") == ["two", "one"]


@pytest.mark.parametrize(("reads", "writes"), [("a/set", "a/set/x.png"), ("a/set/x.png", "a/set")])
def test_a_file_of_a_folder_needs_the_folders_maker(reads, writes):
    """A stage that reads a file of a folder, or a folder of a file, that another makes needs it, as DVC has it."""
    assert pipeline(stage("one", writes=writes), stage("two", [reads])).needs("two") == ["one"]


def test_a_neighbour_is_not_needed():
    """Two paths that only begin alike have nothing to do with each other."""
    assert pipeline(stage("one", writes="a/set"), stage("two", ["a/set2"])).needs("two") == []


def test_what_leads_to_a_stage_is_in_the_order_of_the_template():
    """The stage itself, and all that it needs at any distance, each once; no other."""
    stages = [
        stage("d", ["b/out", "c/out"]),
        stage("c", ["a/out"]),
        stage("b", ["a/out"]),
        stage("a"),
        stage("e", ["a/out"]),
        stage("f", ["d/out"]),
    ]
    assert pipeline(*stages).leading_to("d") == ["d", "c", "b", "a"]
    assert pipeline(*stages).leading_to("a") == ["a"]


def test_a_circle_is_refused_with_its_stages():
    """Stages that wait for each other are named in their order; without a circle nothing is said."""
    good = [stage("a"), stage("b", ["a/out"])]
    pipeline(*good).check_order()
    with pytest.raises(UserError, match=r"the stages .* wait for each other; expected no circle") as told:
        pipeline(stage("x", ["z/out"]), stage("y", ["x/out"]), stage("z", ["y/out"]), *good).check_order()
    assert all(name in str(told.value) for name in "xyz") and "a ->" not in str(told.value)


def test_a_circle_does_not_hang_what_leads_to_a_stage():
    """What leads to a stage is found in a circle as well, so that an error can be said about it."""
    assert pipeline(stage("x", ["y/out"]), stage("y", ["x/out"])).leading_to("x") == ["x", "y"]
