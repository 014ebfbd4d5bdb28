"""Rows that come and runs that go, over a real server; runs arrive whole however the way there breaks."""

import asyncio
import hashlib
import json
import shutil

import pytest
from tests.web.test_adapters_api import get, served

from studium.errors import BadReply, OperatorError
from studium.manage.box import Box
from studium.manage.homecoming import bring_home, checked, homed, travels

ROWS = b'{"prompt": "1 + 1", "completion": "2"}\n' * 40
SHA256 = hashlib.sha256(ROWS).hexdigest()
WEIGHTS = bytes(range(256)) * 4096  # 1 MiB: several pieces


def make_run(workspace, state="done"):
    """A run as training leaves it, by hand."""
    run = workspace / "runs" / "mine"
    (run / "checkpoint").mkdir(parents=True)
    rows = str(workspace / "datasets" / "x.jsonl")
    recipe = {"model": "sprout", "data": [{"file": rows}]}
    (run / "recipe.json").write_text(json.dumps({"stage": "sft", "recipe": recipe}))
    (run / "recipe.yaml").write_text(json.dumps(recipe))
    (run / "status.json").write_text(json.dumps({"state": state}))
    (run / "state.pt").write_bytes(b"a pickle")
    (run / "process.lock").touch()
    (run / "secret.json").symlink_to(workspace / "studium.db")
    (run / "checkpoint" / "model.safetensors").write_bytes(WEIGHTS)
    (run / "empty.jsonl").touch()
    return run


class Lame(Box):
    """A box whose connections break: after how many pieces, in turn."""

    breaks: list[int]
    asked: list[tuple[str, int]]

    def pieces(self, path, start):
        self.asked.append((path.rpartition("/")[2], start))
        left = self.breaks.pop(0) if self.breaks and path.endswith("model.safetensors") else None
        for piece in super().pieces(path, start):
            if left == 0:
                raise self.lost("the cable")
            if left == -1:
                raise KeyboardInterrupt
            left = None if left is None else left - 1
            yield piece


@pytest.fixture
def lame(monkeypatch):
    monkeypatch.setenv("STUDIUM_API_KEY", "a-long-enough-key")

    def a_box(url, *breaks):
        box = Lame(str(url), lambda _: None, sleep=lambda _: None)
        box.breaks, box.asked = list(breaks), []
        return box

    return a_box


async def put(client, name, data):
    async with client.put(f"/api/datasets/{name}", data=data) as response:
        return response.status, await response.json()


async def test_rows_come_in_by_their_content_or_not_at_all(tmp_path, monkeypatch):
    async with served(tmp_path, monkeypatch) as (_, client):
        assert await get(client, f"/api/datasets/{SHA256}", bytes=9) == (
            200,
            {"sha256": SHA256, "is_here": False},
        )
        assert (await get(client, f"/api/datasets/{SHA256}", bytes=2 << 30))[0] == 413
        assert (await get(client, f"/api/datasets/{SHA256}", bytes="many"))[0] == 400
        assert (await put(client, "0" * 64, ROWS))[0] == 400
        assert (await put(client, "..", ROWS))[0] in (404, 405)
        assert (await put(client, "rows", ROWS))[0] == 400
        assert (await put(client, hashlib.sha256(b"x").hexdigest(), b"x"))[0] == 400
        assert (await put(client, SHA256, ROWS))[0] == 201
        assert (await get(client, f"/api/datasets/{SHA256}"))[1]["is_here"]
        assert [one.name for one in (tmp_path / "state" / "datasets").iterdir()] == [f"{SHA256}.jsonl"]
        wrong = {"Authorization": "Bearer another-long-key"}
        async with client.put(f"/api/datasets/{SHA256}", data=ROWS, headers=wrong) as response:
            assert response.status == 401
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
        status, told = await get(client, f"/api/datasets/{'1' * 64}", bytes=1000)
        assert status == 503 and "1,000 bytes of rows do not fit" in told["error"]


async def test_too_many_rows_are_refused_however_they_come(tmp_path, monkeypatch):
    async def chunks():
        yield ROWS[:900]
        yield ROWS[900:]

    monkeypatch.setattr("tests.web.test_adapters_api.CONFIG", CONFIG_SMALL)
    async with served(tmp_path, monkeypatch) as (_, client):
        for data in (ROWS, chunks()):
            status, told = await put(client, SHA256, data)
            assert status == 413 and "raise server.max_dataset" in told["error"]
        assert list((tmp_path / "state" / "datasets").glob("*.jsonl")) == []


CONFIG_SMALL = "workspace: {folder}/state\nserver: {{port: 0, api_keys_env: KEYS, max_dataset: 1KiB}}\n"


async def test_only_what_a_run_wrote_for_others_is_sent(tmp_path, monkeypatch):
    async with served(tmp_path, monkeypatch) as (_, client):
        make_run(tmp_path / "state")
        _, told = await get(client, "/api/runs/mine")
        assert [one["path"] for one in told["files"]] == [
            "checkpoint/model.safetensors",
            "empty.jsonl",
            "recipe.json",
            "recipe.yaml",
            "status.json",
        ]
        assert told["files"][0]["sha256"] == hashlib.sha256(WEIGHTS).hexdigest()
        for path in (
            "state.pt",
            "secret.json",
            "..%2f..%2fstudium.db",
            "checkpoint",
            "checkpoint%2f..%2fstate.pt",
        ):
            assert (await get(client, f"/api/runs/mine/files/{path}"))[0] == 404
        assert (await get(client, "/api/runs/other"))[0] == 404
        assert (await get(client, "/api/runs/Mine!"))[0] == 400


async def test_a_fetch_that_breaks_goes_on_from_its_byte_and_the_run_is_there_at_once(
    tmp_path, monkeypatch, lame
):
    """Broken twice by the network, once by its own end; every byte of the weights is asked for once."""
    async with served(tmp_path, monkeypatch) as (_, client):
        run, home = make_run(tmp_path / "state"), tmp_path / "home"
        first = lame(client._base_url, 1, 1, -1)
        with pytest.raises(KeyboardInterrupt):
            await asyncio.to_thread(bring_home, first, "mine", home)
        assert not (home / "runs").exists()
        (home / "incoming" / "mine" / "of-another-run.json").touch()
        second = lame(client._base_url)
        await asyncio.to_thread(bring_home, second, "mine", home)
        part = [start for name, start in first.asked if name == "model.safetensors"]
        assert part == sorted(set(part)) and len(part) == 3 and part[0] == 0
        assert second.asked[0] == ("model.safetensors", part[-1]) and part[-1] > 0
        mine = home / "runs" / "mine"
        assert (mine / "checkpoint" / "model.safetensors").read_bytes() == WEIGHTS
        told = json.loads((mine / "recipe.json").read_text())
        assert told["recipe"]["data"] == [{"file": str(home / "datasets" / "x.jsonl")}]
        assert told["trained_at"] == second.url
        sent = {"checkpoint", "empty.jsonl", "recipe.json", "recipe.yaml", "status.json"}
        assert {one.name for one in mine.iterdir()} == sent and run.exists()
        assert list((home / "incoming").iterdir()) == []


async def test_what_comes_wrong_is_fetched_again_once_and_then_refused(tmp_path, monkeypatch, lame):
    async with served(tmp_path, monkeypatch) as (_, client):
        make_run(tmp_path / "state")
        coming = tmp_path / "home" / "incoming" / "mine" / "checkpoint"
        coming.mkdir(parents=True)
        (coming / "model.safetensors.part").write_bytes(b"of another run")
        await asyncio.to_thread(bring_home, lame(client._base_url), "mine", tmp_path / "home")
        weights = tmp_path / "home" / "runs" / "mine" / "checkpoint" / "model.safetensors"
        assert weights.read_bytes() == WEIGHTS
        box = lame(client._base_url)
        told = await asyncio.to_thread(box.get, "/api/runs/mine")
        told["files"][0]["sha256"] = "another"
        monkeypatch.setattr(box, "get", lambda _: told)
        with pytest.raises(BadReply, match="another hash than was listed, twice"):
            await asyncio.to_thread(bring_home, box, "mine", tmp_path / "other")
        assert box.asked == [("model.safetensors", 0)] * 2
        assert not (tmp_path / "other" / "runs").exists()


async def test_a_run_that_does_not_fit_or_is_at_work_is_not_begun_to_be_fetched(tmp_path, monkeypatch, lame):
    async with served(tmp_path, monkeypatch) as (_, client):
        run, box = make_run(tmp_path / "state"), lame(client._base_url)
        with monkeypatch.context() as full:
            full.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 1 << 20))
            with pytest.raises(OperatorError, match="1,048,576 are free"):
                await asyncio.to_thread(bring_home, box, "mine", tmp_path / "home")
        (run / "status.json").write_text(json.dumps({"state": "stopped"}))
        with pytest.raises(BadReply, match="a run that is stopped"):
            await asyncio.to_thread(bring_home, box, "mine", tmp_path / "home")
        assert box.asked == []


@pytest.mark.parametrize(
    "path",
    [
        "../x.json",
        "/x.json",
        "a/../x.json",
        ".x.json",
        "a//x.json",
        "a/b/c/d/x.json",
        "x.pt",
        "a\\x",
        "a/recipe.yaml",
    ],
)
def test_a_path_that_leads_elsewhere_or_may_run_code_is_refused(path):
    told = {"state": "done", "files": [{"path": path, "bytes": 1, "sha256": ""}]}
    for name in ("recipe.yaml", "recipe.json", "status.json"):
        told["files"].append({"path": name, "bytes": 1, "sha256": ""})
    assert not travels(path)
    with pytest.raises(BadReply, match="among them"):
        checked(told)
    told["files"] = told["files"][1:]
    assert len(checked(told)) == 3
    for broken in (
        {"state": "done"},
        told | {"files": told["files"][1:]},
        told | {"files": [{"path": "x.json"}]},
    ):
        with pytest.raises(BadReply):
            checked(broken)


def test_only_paths_of_the_other_workspace_become_ours():
    tree = {"a": ["/box/state/runs/x", "/box/state-2/y", 3], "b": "not /box/state/z"}
    assert homed(tree, "/box/state", "/me") == {
        "a": ["/me/runs/x", "/box/state-2/y", 3],
        "b": "not /box/state/z",
    }
    assert homed(tree, "", "/me") == tree
