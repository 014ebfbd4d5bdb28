"""Evidence replays to the verdict it was written with, and is refused where anything of it was changed."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.evals.gate.test_verdict import BETTER, SUITE

from studium.errors import BadRequest, ConfigurationError
from studium.evals.gate import evidence
from studium.evals.gate.evidence import Side
from studium.evals.gate.verdict import Limits
from studium.records.adapters import Evidence, Verdict, content_sha256

BASELINE = Side("sprout", files={"sprout.gguf": "aa"}, precision="Q8_0", fingerprint="f1")
TUNED = Side("sprout/sums", "id-of-sums", {"model.gguf": "bb"}, "Q8_0", "f2")
ASKED = {"domains": ["sums"], "seed": 1, "suite_sha256": "cc"}


def head(champion: Side = BASELINE, challenger: Side = TUNED, **other: object) -> dict[str, object]:
    return evidence.body_of(
        champion, challenger, asked={**ASKED, **other}, engine="e 1", limits=Limits(), fresh=[], suite=None
    )


def sealed() -> Evidence:
    body = evidence.body_of(
        BASELINE, TUNED, asked=ASKED, engine="e 1", limits=Limits(), fresh=BETTER, suite=SUITE
    )
    return evidence.seal(body, role="sprout", at=1.0)


def test_what_was_written_is_read_again_and_tells_the_same(tmp_path: Path):
    made = sealed()
    assert (made.verdict, made.champion, made.challenger) == (Verdict.PROMOTE, "", "id-of-sums")
    path = evidence.write(made, tmp_path / "evidence")
    assert path.name == f"{made.id}.json"
    read = evidence.read(path)
    assert read == made
    assert evidence.replay(read).verdict is Verdict.PROMOTE
    assert evidence.changed(read.body, head()) == []


def test_a_pair_that_was_changed_is_noticed():
    made = sealed()
    rows = [list(row) for row in made.body["fresh"]]
    rows[0][4] = 1.0 - rows[0][4]
    changed = replace(made, body={**made.body, "fresh": rows})
    with pytest.raises(ConfigurationError, match="was changed"):
        evidence.replay(changed)


def test_a_verdict_that_its_pairs_do_not_tell_is_refused():
    made = sealed()
    body = {**made.body, "fresh": [list(one) for one in BETTER[:5]]}
    forged = replace(made, id=content_sha256(body), body=body)
    with pytest.raises(ConfigurationError, match="its pairs say hold"):
        evidence.replay(forged)


@pytest.mark.parametrize(
    ("now", "what"),
    [
        (head(replace(BASELINE, precision="F16")), "champion.precision"),
        (head(challenger=replace(TUNED, files={"model.gguf": "dd"})), "challenger.files"),
        (head(challenger=replace(TUNED, fingerprint="f3")), "challenger.fingerprint"),
        (head(suite_sha256="ee"), "asked.suite_sha256"),
        (head() | {"engine": "e 2"}, "engine"),
    ],
)
def test_other_files_precision_data_or_engine_are_named(now: dict[str, object], what: str):
    assert evidence.changed(sealed().body, now) == [what]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id": "x", "verdict": "ok"}', "{" * 10_000])
def test_what_is_no_evidence_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(BadRequest, match="is no evidence"):
        evidence.read(path)


def test_a_body_of_another_form_is_refused():
    with pytest.raises(BadRequest, match="cannot be read"):
        evidence.decision_of({"form": 2})
