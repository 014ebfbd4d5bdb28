"""Every call of every student asks the purse, and one that may not be paid for is no run of its model."""

from dataclasses import replace

import pytest
from tests.fleet.house import ASK, house, script, student

from studium.errors import SpendingLimit
from studium.fleet.limits import Limits
from studium.fleet.purse import Bill, Unlimited
from studium.records.hardware import DeviceBudget, DeviceKind
from studium.records.messages import Reply, Sampling
from studium.records.models import Capabilities, ModelSpec


class Noting:
    """A purse that notes who asked; `empty` lets nobody."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bool]] = []
        self.got: list[object] = []
        self.empty = False

    def allow(self, student, model, ask, *, bill=None, on_gpu=False):
        self.asked.append((student, bill.session if bill else "", on_gpu))
        if self.empty:
            raise SpendingLimit("the purse is empty")
        allowed = Unlimited(replace(ask, sampling=Sampling(max_tokens=1)))
        allowed.got = self.got.append  # type: ignore[method-assign]
        return allowed


async def test_what_is_said_is_what_the_purse_allows_and_it_learns_what_came():
    async with house({"a": script()}) as h:
        h.fleet.purse = purse = Noting()
        assert await h.ask(student("a"), bill=Bill("r", "class of 7")) == "hi"
        assert purse.asked == [("a", "class of 7", False)]
        assert [type(one) for one in purse.got] == [Reply]


async def test_embeddings_ask_the_purse_too():
    async with house({"a": script(embedding_size=2)}) as h:
        h.fleet.purse = purse = Noting()
        model = replace(student("a").model, embeddings=True)
        async with h.fleet.seat(replace(student("a"), model=model), timeout_s=5) as seat:
            await seat.embed(["a text"])
            purse.empty = True
            with pytest.raises(SpendingLimit):
                await seat.embed(["a text"])
        assert len(purse.asked) == 2 and len(purse.got) == 1


async def test_a_refused_call_is_no_run_of_its_model():
    async with house({"a": script()}) as h:
        h.fleet.purse = purse = Noting()
        purse.empty = True
        with pytest.raises(SpendingLimit):
            await h.ask(student("a"))
        assert h.runs == []
        purse.empty = False
        assert await h.ask(student("a"), ask=ASK)
        assert [run.success for run in h.runs] == [True]


def test_a_model_is_on_a_gpu_where_it_has_layers_there_or_its_engine_has_one():
    card = DeviceBudget("card", DeviceKind.GPU, 2**30, "declared")
    ours, theirs = Capabilities(True, places_models=True), Capabilities(True)
    layered, plain = ModelSpec("a", "llamacpp", "a.gguf", gpu_layers=9), ModelSpec("b", "llamacpp", "b.gguf")
    limits = Limits(2**30, devices=(card,))
    assert limits.on_gpu(layered, ours) and not limits.on_gpu(plain, ours)
    assert limits.on_gpu(plain, theirs) and not Limits(2**30).on_gpu(plain, theirs)
    assert not limits.on_gpu(layered, Capabilities(manages_memory=False))
