"""Two turns of the loop for one role: the second goes on from what the first left serving, and is held against it."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")

from studium.config import Config
from studium.manage.improve import loop
from studium.manage.improve.champion import trainable
from studium.manage.improve.commands import Commands
from studium.manage.improve.folder import Improvement, Wanted, begin
from studium.registry import Registry
from studium.store import open_store
from studium.train.bases import base_sha256

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def figure(domain: str, value: float, level: int | None) -> dict[str, Any]:
    told = {"domain": domain, "level": level, "metric": "accuracy", "value": value, "counted": 30}
    return told | {"low": 0.0, "high": 1.0}


MEASURED = [
    figure(name, share, level)
    for name, share in (("arithmetic", 0.2), ("sorting", 0.6))
    for level in (None, 1)
]


def turn(config: Config, *, lora: bool) -> Improvement:
    """Carry out one turn of a few steps, whatever its time; what the role can do is not measured again."""
    one = begin(config.workspace, Wanted("sprout", minutes=100.0, problems=10, rows=64, lora=lora))
    one.steps |= {"measure": {"figures": MEASURED}, "pace": {"seconds_a_step": 1.0, "steps": 24}}
    said: list[str] = []
    loop.Loop(
        one, Commands(config.workspace, None, said.append), trainable(config, "sprout"), said.append
    ).run()
    assert "compare" in one.steps, (one.ending, one.detail, said)
    return one


def test_a_second_turn_goes_on_from_the_champion_and_the_way_back_leads_past_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "MEASURED_PROBLEMS", 10)
    monkeypatch.setattr(loop, "REHEARSED_ROWS", 4)
    config = Config(workspace=tmp_path / "w")
    turns = [turn(config, lora=True)]
    store = open_store(config.workspace / "state.db")
    try:
        registry = Registry(store, config.workspace)
        [first] = registry.adapters("sprout")
        serve(registry, first.id)
        merged = config.workspace / "runs" / "improve-sprout-1" / "checkpoint" / "model.gguf"
        assert trainable(config, "sprout") == str(merged)
        turns.append(turn(config, lora=False))
        second = registry.adapter("sprout", "sprout-2")
        assert (first.kind, first.base, second.kind, second.base) == (
            "adapter",
            "sprout",
            "model",
            "sprout/sprout-1",
        )
        assert second.base_sha256 == base_sha256(str(merged)) != first.base_sha256 == base_sha256("sprout")
        assert (second.lineage["stands_on"], second.lineage["student"]) == (first.id, "sprout")
        evidence = [registry.evidence(one.steps["compare"]["evidence"]) for one in turns]
        assert [one.champion for one in evidence] == ["", first.id]
        serve(registry, second.id)
        assert trainable(config, "sprout") == str(registry.serving_path(second))
        with registry.lease("me") as token:
            for champion in (first.id, ""):
                registry.rollback("sprout", actor="me", token=token)
                assert registry.route("sprout").champion == champion
        assert registry.verify() == [] and trainable(config, "sprout") == "sprout"
    finally:
        store.close()


def serve(registry: Registry, adapter_id: str) -> None:
    """Let an adapter serve whatever the gate said of so few steps, unless it was promoted."""
    if registry.route("sprout").champion != adapter_id:
        with registry.lease("me") as token:
            registry.force("sprout", adapter_id, reason="a test of two turns", actor="me", token=token)
