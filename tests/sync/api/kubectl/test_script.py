"""kubectl 1.34, unmodified, says the same of both APIs."""

from __future__ import annotations

import difflib
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench import apiserver
from bench.peers import find
from tests.sync.api.apis import Api
from tests.sync.api.kubectl.script import ALL, LINES, NOTHING, STEPS, SUBSET, Step
from tests.sync.api.kubectl.transcript import Said, run

pytestmark = pytest.mark.timeout(300)  # the first test waits for the whole script, on both
IDS = [f"{number:03d} {step.words}"[:70] for number, step in enumerate(STEPS)]
Transcripts = tuple[list[Said], list[Said] | None]


@pytest.fixture(scope="module")
def transcripts(embedded: Api, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Transcripts:
    """Of the embedded API and, where it is built, of Kubernetes' own."""
    if find("kubectl") is None:
        pytest.skip("kubectl is not there: python -m bench.peers kubectl")
    folder = tmp_path_factory.mktemp("kubectl")
    with ThreadPoolExecutor() as pool:
        ours = pool.submit(run, embedded, STEPS, folder / "embedded")
        theirs = None
        if not apiserver.missing():
            kubernetes: Api = request.getfixturevalue("kubernetes")
            theirs = pool.submit(run, kubernetes, STEPS, folder / "kubernetes")
        return ours.result(), theirs.result() if theirs else None


@pytest.mark.parametrize(("number", "step"), list(enumerate(STEPS)), ids=IDS)
def test_the_script(transcripts: Transcripts, number: int, step: Step) -> None:
    ours, theirs = transcripts[0][number], transcripts[1][number] if transcripts[1] else None
    if theirs is not None and step.same is not NOTHING:
        wanted, found = theirs.masked.splitlines(), ours.masked.splitlines()
        if step.same is LINES:
            wanted, found = sorted(wanted), sorted(found)
        if step.same is SUBSET:
            found = [line for line in found if line]
            wanted = [line for line in wanted if line in found and line]
        difference = "\n".join(difflib.unified_diff(wanted, found, "kubernetes", "embedded", lineterm="", n=3))
        assert not difference, f"kubectl {step.words}\n{difference}"
        assert step.same is ALL or found
    assert ours.code == step.code, ours.text


def test_what_differs_has_its_reason() -> None:
    assert [step.words for step in STEPS if step.same is not ALL and not step.why] == []
