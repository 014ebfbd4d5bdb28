from dataclasses import replace
from pathlib import Path

import pytest

from studium.engines.protocol import complete
from studium.engines.scripted import Fault, FaultKind, Rule, ScriptedEngine
from studium.engines.scripted.read import parse_script, read_script
from studium.errors import ConfigurationError, UnknownModel
from studium.records.messages import Ask
from studium.records.models import ModelSpec

SCRIPT = r"""
models:
  alpha:
    rules:
      - {contains: "2 + 2", answer: "4"}
      - {matches: '(\d+) apples', answer: ['\1 apples', "some"]}
    default: "no idea"
    token_s: 1
    resident_bytes: 1000
    obeys: true
    embeddings: {cat: [1, 0]}
    fault: {kind: crash, after_tokens: 3, times: 1}
  beta:
"""


def test_every_key_reaches_its_field():
    script = parse_script(SCRIPT).models["alpha"]
    assert script.rules == (
        Rule(("4",), contains="2 + 2"),
        Rule((r"\1 apples", "some"), matches=r"(\d+) apples"),
    )
    assert (script.default, script.token_s, script.resident_bytes) == (("no idea",), 1.0, 1000)
    assert (script.obeys, script.embeddings) == (True, {"cat": (1.0, 0.0)})
    assert script.fault == Fault(FaultKind.CRASH, after_tokens=3, times=1)


def test_a_registry_says_what_can_be_pulled_and_how_that_goes():
    script = parse_script("registry: {a: {part_s: 2, pull_fault: {kind: stall, seconds: 0.06}}, b: }")
    assert (script.models, list(script.registry)) == ({}, ["a", "b"])
    assert script.registry["a"].part_s == 2.0
    assert script.registry["a"].pull_fault == Fault(FaultKind.STALL, seconds=0.06)


async def test_a_model_is_found_in_a_file_by_its_own_name_or_by_the_one_given(tmp_path: Path):
    file = tmp_path / "script.yaml"
    file.write_text('models: {alpha: {default: "A"}, beta: {default: "B"}}')
    engine, spec = ScriptedEngine(), ModelSpec(name="beta", engine="scripted", source=str(file))
    named = replace(spec, name="x", source=f"{file}#alpha")
    for model, answer in ((spec, "B"), (named, "A")):
        await engine.load(model, timeout_s=30)
        assert (await complete(engine, model, Ask(prompt="hi"))).text == answer
    with pytest.raises(UnknownModel, match="no model 'gamma'"):
        await engine.load(replace(spec, name="gamma"), timeout_s=30)
    with pytest.raises(UnknownModel, match="no script at"):
        read_script(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("models: [", "is no YAML"),
        ("[]", "expected|keys and values"),
        ("models: {}", "declares no models"),
        ("models: {a: {defualt: x}}", "did you mean default"),
        ("models: {a: {default: 4}}", "a.default is 4"),
        ("models: {a: {token_s: soon}}", "a.token_s is 'soon'"),
        ("models: {a: {token_s: -1}}", "token_s is -1"),
        ("models: {a: {tokens: true}}", "a.tokens is True"),
        ("models: {a: {rules: [{matches: '(', answer: x}]}}", "pattern '\\(' of a scripted rule is broken"),
        ("models: {a: {rules: [{answer: x}]}}", "no single condition"),
        ("models: {a: {default: []}}", "no default answer"),
        ("models: {a: }\nregistry: [b]", "registry is \\['b'\\]"),
        ("registry: {a: {pull_fault: {kind: sulk}}}", "a.pull_fault.kind is 'sulk'"),
        ("models: {a: {fault: {kind: sulk}}}", "one of crash_at_load"),
        ("models: {a: {fault: {kind: crash, after_token: 1}}}", "did you mean after_tokens"),
    ],
)
def test_a_broken_script_is_refused_with_its_place(text, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        parse_script(text)
