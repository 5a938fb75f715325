"""What the documents say can be done as they say it."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.demo.__main__ import parser as demo_parser
from e2e.lab.namespaces import Bed
from edgemesh import cli
from edgemesh.config import load
from sync.client.manifest import parse
from tests.docs.pages import PAGES, ROOT, Block, blocks, commands, inline
from tests.edgemesh.running import CONFIG, ENVIRONMENT, MANIFESTS, Host, until

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


def cases(found: list[tuple[Path, str]]) -> list[object]:
    return [pytest.param(what, id=f"{page.name}: {what}") for page, what in dict.fromkeys(found)]


@pytest.mark.parametrize("command", cases([(page, line) for page in PAGES for line in commands(page)]))
def test_command_lines_are_taken(command: str) -> None:
    program, *words = shlex.split(command)
    if program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert [word for word in words if "=" not in word and word not in targets] == []
    elif words[:1] == ["demo"]:
        demo_parser().parse_args(words[1:])
    elif words:
        cli.parser().parse_args(words + _required(words))


def _required(words: list[str]) -> list[str]:
    """Where a sentence names a role only, what it needs besides."""
    return ["--manifests", MANIFESTS] if words == ["relay"] else []


def started(unit: Path) -> list[str]:
    """What a unit starts; variables have the values that its comments give as examples."""
    text = unit.read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    examples = dict(re.findall(r"(\w+)=\"(.*)\"", text))
    return shlex.split(re.sub(r"\$(\w+)", lambda found: examples[found[1]], line))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_start_what_there_is(unit: Path) -> None:
    env, program, *words = started(unit)
    assert (env, program) == ("/usr/bin/env", "edgemesh")
    assert words[0] in unit.name
    cli.parser().parse_args(words)


def test_systemd_takes_the_units() -> None:
    verify = shutil.which("systemd-analyze")
    if not verify:
        pytest.skip("no systemd here")
    done = subprocess.run([verify, "verify", "--man=no", *map(str, UNITS)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "block", [block for page in PAGES for block in blocks(page) if block.language == "yaml"], ids=lambda b: b.page
)
def test_yaml_is_read_without_a_word(block: Block, tmp_path: Path) -> None:
    if "kind: EdgeMeshAgent" in block.text:
        path = tmp_path / "agent.yaml"
        path.write_text(block.text)
        _, notices = load(str(path), {"NODE_NAME": "a1"})
        assert notices == []
    else:
        objects, problems = parse("page.yaml", block.text.encode(), "10.96.0.0/12")
        assert problems == []
        assert objects


@pytest.mark.parametrize("code", cases([(page, code) for page in PAGES for code in inline(page)]))
def test_files_that_are_named_exist(code: str) -> None:
    if re.fullmatch(r"[\w.*-]+(/[\w.*-]*)+|[\w-]+\.(md|py|txt|toml|sh)", code):
        assert list(ROOT.glob(code.rstrip("/"))), f"{code} does not exist"
    for name in re.findall(r"\b(?:docs|dev|deploy|examples|e2e|tests)/[\w./-]*\w", code):
        assert (ROOT / name).exists(), f"{name} does not exist"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Bed() as bed:
        yield Host(bed, "a1", tmp_path)


@pytest.mark.bed
def test_a_node_is_installed_without_an_api(host: Host) -> None:
    """The configuration, the `sh` blocks in order, the units' commands: a host that is called as the page's is."""
    page = ROOT / "docs" / "manifests.md"
    space = host.space
    host.path(CONFIG).parent.mkdir(parents=True)
    (config,) = [block.text for block in blocks(page) if "kind: EdgeMeshAgent" in block.text]
    host.path(CONFIG).write_text(config)
    describe, *rest = [block.text for block in blocks(page) if block.language == "sh"]
    path = f"{ROOT}/.venv/bin"
    env = {**ENVIRONMENT, "PATH": f"{path}:/usr/sbin:/usr/bin:/sbin:/bin"}
    space.run(f"cd {MANIFESTS} && {describe}", env=env)
    assert [file.name for file in host.path(MANIFESTS).iterdir()] == ["a1.yaml"]
    for unit in UNITS:
        if "cloud" in unit.stem:
            continue
        space.popen(started(unit), env=env, log=host.logs / f"{unit.stem}.log")
    until(lambda: host.status().get("healthy"), 20, "healthy", host.status)
    for script in rest:
        space.run(script, env=env)
