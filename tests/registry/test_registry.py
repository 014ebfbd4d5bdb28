"""The registry on a real store: taking in, promoting on evidence, the way back, and noticing what was tampered with."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.registry.weights import BASE, adapter_folder, base_file, gguf, model_folder, safetensors

from studium.errors import BadRequest, LeaseLost, StoreUnavailable
from studium.records.adapters import (
    Action,
    Adapter,
    AdapterKind,
    Evidence,
    Phase,
    Route,
    Verdict,
    content_sha256,
)
from studium.registry import Registry, holding
from studium.registry.files import sha256_of_file
from studium.store import open_store
from studium.store.database import open_database

LINEAGE = {"run": "tiny-run", "stage": "sft", "data_sha256": "12" * 32, "scores": {"chains": 0.5}}


@pytest.fixture
def registry(tmp_path) -> Iterator[Registry]:
    store = open_store(tmp_path / "ws" / "state.db")
    yield Registry(store, tmp_path / "ws")
    store.close()


def take_in(registry: Registry, folder: Path, name: str = "tiny", **told) -> Adapter:
    if not folder.exists():
        adapter_folder(folder, name)
    told = {
        "base": BASE,
        "base_sha256": sha256_of_file(base_file()),
        "kind": AdapterKind.ADAPTER,
        "lineage": LINEAGE,
        **told,
    }
    return registry.register(folder, "sprout", name=name, **told)


def forced(registry: Registry, adapter: Adapter) -> None:
    with registry.lease("me") as token:
        registry.force("sprout", adapter.id, reason="it is a test", actor="me", token=token)


def evidence_for(registry: Registry, adapter: Adapter, verdict: Verdict = Verdict.PROMOTE) -> Evidence:
    body = {"pairs": [[0, 1]], "challenger": adapter.id, "champion": registry.route("sprout").champion}
    found = Evidence(
        content_sha256(body), 1.0, "sprout", registry.route("sprout").champion, adapter.id, verdict, body
    )
    registry.add_evidence(found)
    return found


def test_an_adapter_is_copied_with_a_card_whose_hash_is_its_id(registry, tmp_path):
    adapter = take_in(registry, tmp_path / "run")
    folder = tmp_path / "ws" / "adapters" / "sprout" / "tiny"
    assert sha256_of_file(folder / "adapter_meta.json") == adapter.id
    card = json.loads((folder / "adapter_meta.json").read_text())
    assert card["lineage"] == LINEAGE and card["files"] == adapter.files
    assert {name: sha256_of_file(folder / name) for name in adapter.files} == adapter.files
    assert registry.adapter("sprout", "tiny") == registry.adapter("sprout", adapter.id[:8]) == adapter
    assert registry.serving_path(adapter) == folder / "adapter.gguf"
    assert [one.action for one in registry.history()] == [Action.REGISTER]
    assert registry.route("sprout") == Route("sprout", number=1) and registry.verify() == []
    assert not list((tmp_path / "ws" / "adapters" / ".incoming").iterdir())


def test_the_same_again_changes_nothing_and_another_does_not_take_its_name(registry, tmp_path):
    adapter = take_in(registry, tmp_path / "run")
    assert take_in(registry, tmp_path / "run") == adapter and len(registry.history()) == 1
    (tmp_path / "run" / "README.md").write_text("changed")
    with pytest.raises(BadRequest, match="another adapter 'tiny'"):
        take_in(registry, tmp_path / "run")
    with pytest.raises(BadRequest, match="another adapter"):
        take_in(registry, tmp_path / "run", dry_run=True)
    assert registry.verify() == []


def test_a_rehearsed_registration_checks_all_and_keeps_nothing(registry, tmp_path):
    would = take_in(registry, tmp_path / "run", dry_run=True)
    assert registry.adapters() == [] and not (tmp_path / "ws" / would.folder).exists()
    assert take_in(registry, tmp_path / "run").id == would.id


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "A", "x" * 65, "own-student", "a\n"])
def test_names_that_would_leave_the_folder_are_refused(registry, tmp_path, name):
    for told in ({"name": name}, {"shelf": name}):
        if told == {"shelf": ""}:
            continue
        with pytest.raises(BadRequest, match="is no name for"):
            registry.register(
                adapter_folder(tmp_path / f"run{len(told)}{len(list(tmp_path.iterdir()))}"),
                "sprout",
                **{"name": "fine", **told},
                base=BASE,
                base_sha256="",
                kind=AdapterKind.ADAPTER,
                lineage={},
            )
    assert registry.adapters() == []


def test_an_adapter_of_another_base_is_refused_by_hash_by_name_and_by_shape(registry, tmp_path):
    with pytest.raises(BadRequest, match="is not the one this was trained on"):
        take_in(registry, tmp_path / "run", base_sha256="00" * 32)
    with pytest.raises(BadRequest, match="no model of the roster"):
        take_in(registry, tmp_path / "run", base="nobody")
    with pytest.raises(BadRequest, match="does not fit"):
        take_in(registry, tmp_path / "run", base="abacus", base_sha256="")
    told = {"general.architecture": "llama", "general.type": "adapter"}
    for changed, shapes in (("blk.0.attn_q.weight", (7, 7)), ("blk.99.attn_q.weight", (64, 64))):
        halves = {f"{changed}.lora_a": (shapes[0], 2), f"{changed}.lora_b": (2, shapes[1])}
        (tmp_path / "run" / "adapter.gguf").write_bytes(gguf(told, halves))
        with pytest.raises(BadRequest, match="does not fit sprout.gguf: blk."):
            take_in(registry, tmp_path / "run")
    assert registry.adapters() == []


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"lineage": {"seed": 2**70}}, "no JSON"),
        ({"lineage": {"a": {1, 2}}}, "no JSON"),
        ({"lineage": {"log": "x" * 2**20}}, "bytes"),
        ({"base": "b" * 501}, "501 letters"),
    ],
)
def test_a_lineage_that_cannot_be_kept_is_refused_before_anything_is_copied(registry, tmp_path, told, said):
    with pytest.raises(BadRequest, match=said):
        take_in(registry, tmp_path / "run", **told)
    assert not (tmp_path / "ws" / "adapters").exists()


def test_a_model_stands_by_itself_and_what_no_engine_loads_is_kept_but_never_serves(registry, tmp_path):
    whole = take_in(registry, model_folder(tmp_path / "whole"), "whole", kind=AdapterKind.MODEL)
    assert whole.serving_file == "model.gguf"
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "model.safetensors").write_bytes(safetensors({"w": (2, 2)}))
    shelved = take_in(
        registry, plain, "plain", kind=AdapterKind.MODEL, base="elsewhere", shelf="foundational"
    )
    assert (shelved.folder, shelved.serving_file) == ("adapters/foundational/plain", "")
    with pytest.raises(BadRequest, match="no GGUF file"):
        forced(registry, shelved)


def test_a_promotion_needs_evidence_and_notes_it(registry, tmp_path):
    adapter = take_in(registry, tmp_path / "run")
    evidence = evidence_for(registry, adapter)
    with registry.lease("me") as token:
        with pytest.raises(BadRequest, match="no such evidence"):
            registry.promote("sprout", adapter.id, evidence="00", actor="me", token=token)
        would = registry.promote("sprout", adapter.id, evidence=evidence.id, actor="me", token=None)
        assert registry.route("sprout").champion == ""
        done = registry.promote("sprout", adapter.id, evidence=evidence.id, actor="me", token=token)
    assert would.after == done.after and (done.evidence, done.actor, done.token) == (evidence.id, "me", token)
    assert registry.route("sprout") == Route("sprout", adapter.id, number=2)
    assert registry.history()[-1] == done and registry.verify() == []


def test_a_promotion_under_a_lease_that_somebody_took_over_changes_nothing(registry, tmp_path):
    adapter = take_in(registry, tmp_path / "run")
    with registry.lease("sleeper") as stale:
        pass
    with registry.lease("heir"):
        with pytest.raises(LeaseLost):
            registry.force("sprout", adapter.id, reason="late", actor="sleeper", token=stale)
    with pytest.raises(LeaseLost):
        registry.rollback("sprout", actor="sleeper", token=stale)
    assert registry.route("sprout").champion == "" and len(registry.history()) == 1


def test_the_last_three_champions_are_a_command_away(registry, tmp_path):
    three = [take_in(registry, tmp_path / name, name) for name in ("one", "two", "three")]
    for adapter in three:
        forced(registry, adapter)
    seen = []
    with registry.lease("me") as token:
        while registry.route("sprout").champion:
            registry.rollback("sprout", actor="me", token=token)
            seen.append(registry.route("sprout").champion)
    assert seen == [three[1].id, three[0].id, ""] and registry.verify() == []


def test_a_predecessor_whose_file_was_removed_is_passed_over(registry, tmp_path):
    one, two, three = (take_in(registry, tmp_path / name, name) for name in ("one", "two", "three"))
    for adapter in (one, two, three):
        forced(registry, adapter)
    registry.serving_path(two).unlink()
    with registry.lease("me") as token:
        registry.rollback("sprout", actor="me", token=token)
        with pytest.raises(BadRequest, match="is not there any more"):
            registry.force("sprout", two.id, reason="back", actor="me", token=token)
    assert registry.route("sprout").champion == one.id


def test_a_challenger_is_stepped_and_withdrawn_each_with_its_row(registry, tmp_path):
    adapter = take_in(registry, tmp_path / "run")
    with registry.lease("me") as token:
        told = {"actor": "me", "token": token}
        registry.challenge("sprout", adapter.id, Phase.SHADOW, 0.0, **told)
        registry.challenge("sprout", adapter.id, Phase.SHIFT, 0.1, evidence="e1", **told)
        assert registry.route("sprout").share == 0.1
        withdrawn = registry.withdraw("sprout", reason="worse", **told)
    assert withdrawn.adapter == adapter.id and registry.route("sprout") == Route("sprout", number=4)
    actions = [one.action for one in registry.history("sprout")]
    assert actions == [Action.REGISTER, Action.CHALLENGE, Action.SHIFT, Action.WITHDRAW]


def test_evidence_whose_id_is_not_its_hash_is_refused_and_laid_down_files_are_found(registry, tmp_path):
    adapter = take_in(registry, tmp_path / "run")
    good = Evidence(content_sha256({"a": 1}), 1.0, "sprout", "", adapter.id, Verdict.PROMOTE, {"a": 1})
    with pytest.raises(BadRequest, match="not what its id says"):
        registry.add_evidence(replace(good, body={"a": 2}))
    folder = tmp_path / "ws" / "evidence"
    folder.mkdir()
    told = {"id": good.id, "at": 1.0, "role": "sprout", "champion": "", "challenger": adapter.id}
    (folder / f"{good.id}.json").write_text(json.dumps({**told, "verdict": "promote", "body": {"a": 1}}))
    assert registry.evidence(good.id[:8]) == good
    for wrong in ("0" * 64, "../../x", good.id[:7], ""):
        with pytest.raises(BadRequest, match="no evidence"):
            registry.evidence(wrong)


def test_forcing_needs_a_reason_and_leads_back_to_the_student_as_well(registry, tmp_path):
    adapter = take_in(registry, tmp_path / "run")
    with registry.lease("me") as token:
        with pytest.raises(BadRequest, match="needs a reason"):
            registry.force("sprout", adapter.id, reason="  ", actor="me", token=token)
        registry.force("sprout", adapter.id, reason="try it", actor="me", token=token)
        registry.force("sprout", "", reason="enough", actor="me", token=token)
    assert registry.route("sprout").champion == "" and registry.history()[-1].reason == "enough"
    assert registry.predecessors("sprout") == [adapter.id, ""]


def tampered(workspace: Path, *statements: str) -> None:
    """Change rows as somebody with the file in hands would: without the guard."""
    database = open_database(workspace / "state.db")
    with database.begin() as connection:
        for table in ("route_changes", "gate_evidence"):
            for what in ("update", "delete"):
                connection.execute(text(f"DROP TRIGGER {table}_no_{what}"))
        for statement in statements:
            connection.execute(text(statement))
    database.dispose()


@pytest.mark.parametrize(
    ("statement", "where", "what"),
    [
        (
            "UPDATE route_changes SET reason = 'fine' WHERE number = 2",
            "route_changes, number 2",
            "not as it was",
        ),
        (
            "UPDATE route_changes SET after = '{' WHERE number = 2",
            "route_changes, number 2",
            "cannot be read",
        ),
        ("DELETE FROM route_changes WHERE number = 2", "route_changes, number 3", "1 rows are missing"),
        ("DELETE FROM route_changes WHERE number = 4", "routes, sprout", "not where the last change"),
        ("UPDATE routes SET champion = ''", "routes, sprout", "not where the last change"),
        ("UPDATE routes SET champion = 'zz'", "routes, sprout", "its champion zz is not registered"),
        ("DELETE FROM routes", "routes, sprout", "is missing"),
        ("UPDATE adapters SET base = 'other'", "adapters, sprout/tiny", "not as it was registered"),
        ("UPDATE adapters SET lineage = '['", "adapters, sprout/tiny", "cannot be read"),
        ("UPDATE gate_evidence SET verdict = 'hold'", "gate_evidence, ", "not as it was written"),
        ("UPDATE gate_evidence SET body = '{}'", "gate_evidence, ", "its body is not"),
        ("DELETE FROM gate_evidence", "route_changes, number 4", "is not there"),
    ],
)
def test_what_was_tampered_with_is_named(registry, tmp_path, statement, where, what):
    adapter = take_in(registry, tmp_path / "run")
    forced(registry, adapter)
    with registry.lease("me") as token:
        registry.rollback("sprout", actor="me", token=token)
        evidence = evidence_for(registry, adapter)
        registry.promote("sprout", adapter.id, evidence=evidence.id, actor="me", token=token)
    assert registry.verify() == []
    tampered(tmp_path / "ws", statement)
    faults = registry.verify()
    assert any(one.where.startswith(where) and what in one.what for one in faults), faults


def test_files_that_were_changed_removed_or_added_are_named(registry, tmp_path):
    adapter = take_in(registry, tmp_path / "run")
    folder = tmp_path / "ws" / adapter.folder
    (folder / "README.md").write_text("another")
    (folder / "adapter_config.json").unlink()
    (folder / "evil.py").write_text("boo")
    (folder / "adapter.gguf").rename(tmp_path / "aside")
    (folder / "adapter.gguf").symlink_to(tmp_path / "aside")
    faults = {Path(one.where).name: one.what for one in registry.verify()}
    assert "is not as it was registered" in faults["README.md"]
    assert "No such file" in faults["adapter_config.json"] and "not registered with it" in faults["evil.py"]
    assert "cannot be read" in faults["adapter.gguf"]


def test_a_registration_that_died_before_its_row_is_taken_up(registry, tmp_path):
    orphan = tmp_path / "ws" / "adapters" / "sprout" / "tiny"
    orphan.mkdir(parents=True)
    (orphan / "half.gguf").write_text("x")
    dead = tmp_path / "ws" / "adapters" / ".incoming" / "999999999-dead"
    dead.mkdir(parents=True)
    adapter = take_in(registry, tmp_path / "run")
    assert registry.verify() == [] and not dead.exists()
    assert {one.name for one in orphan.iterdir()} == {*adapter.files, "adapter_meta.json"}


def test_ten_who_register_at_once_end_with_one_adapter_and_one_row(registry, tmp_path):
    adapter_folder(tmp_path / "run", "tiny")
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(take_in(registry, tmp_path / "run").id))
        for _ in range(10)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert len(found) == 10 and len(set(found)) == 1
    assert len(registry.history()) == 1 and registry.verify() == []


def test_a_file_that_is_not_the_registered_one_is_not_promoted(registry, tmp_path):
    adapter = take_in(registry, tmp_path / "run")
    with registry.serving_path(adapter).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    with pytest.raises(BadRequest, match="is not the file that was registered"):
        forced(registry, adapter)
    assert registry.route("sprout").champion == ""


def test_a_lease_is_renewed_while_it_is_held_and_a_holder_that_hangs_loses_it(registry, monkeypatch):
    monkeypatch.setattr(holding, "LEASE_S", 0.3)
    with registry.lease("slow"):
        time.sleep(0.8)
        with pytest.raises(LeaseLost):
            with registry.lease("other", wait_s=0.0):
                raise AssertionError("a lease that is renewed was given away")
    monkeypatch.setattr(holding, "HOLD_S", 0.0)
    with registry.lease("hung") as token:
        with registry.lease("heir", wait_s=30.0) as newer:
            assert newer > token


def test_a_lease_that_is_held_too_long_is_said_with_its_holder(registry):
    with registry.lease("first"):
        with pytest.raises(LeaseLost, match="first .* is changing routes"):
            with registry.lease("second", wait_s=0.0):
                raise AssertionError("two hold one lease")


def test_a_workspace_that_cannot_be_written_says_so_and_keeps_nothing(registry, tmp_path):
    adapters = tmp_path / "ws" / "adapters"
    adapters.write_text("a file where the folder should be")
    with pytest.raises(StoreUnavailable, match="cannot be"):
        take_in(registry, tmp_path / "run")
    assert registry.adapters() == []
