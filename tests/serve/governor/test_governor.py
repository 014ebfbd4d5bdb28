"""The governor as the fleet's purse: what calls may be made, what they are charged, what an answer tells of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from studium.config.schema import GovernorConfig, PriceConfig
from studium.engines.http_errors import HttpRefusal
from studium.errors import (
    BadRequest,
    EngineDied,
    EngineTimeout,
    PromptTooLong,
    SpendingLimit,
    StoreUnavailable,
    UnknownModel,
)
from studium.records.messages import Ask, Embeddings, Finish, Message, Reply, Sampling
from studium.records.models import ModelSpec
from studium.records.spending import Amount
from studium.serve.governor.governor import Governor, nanousd_of, prompt_tokens_at_most, was_never_sent
from studium.store.database import open_database
from studium.store.spending import Spending

LARGE = ModelSpec("large", "cloud", "large-1")
NEW = ModelSpec("new", "cloud", "unpriced")
FREE = ModelSpec("free", "llamacpp", "free.gguf", gpu_layers=99)
VECTORS = ModelSpec("vectors", "cloud", "vectors-1", embeddings=True)
PRICES = {"large-1": PriceConfig(1.0, 10.0), "vectors-1": PriceConfig(0.5, 0.0)}
ASK = Ask(messages=(Message("user", "hello"),), sampling=Sampling(max_tokens=1_000), timeout_s=30.0)
# "hello", what a template puts around each text, and 1,000 tokens of answer.
MOST_NANOUSD = (5 + 16 * 3) * 1_000 + 1_000 * 10_000


@asynccontextmanager
async def governed(path: Path, **settings: object) -> AsyncIterator[Governor]:
    database = open_database(path / "state.db")
    spending = Spending(database)
    governor = Governor(spending, replace(GovernorConfig(), **settings), {"cloud": PRICES})
    governor.start()
    try:
        yield governor
    finally:
        governor.close()
        spending.close()
        database.dispose()


async def day(governor: Governor, unit: str = "usd") -> tuple[float, float]:
    """What is spent and reserved within a day, once all that was settled is booked."""
    for _ in range(200):
        use = next(use for use in governor.standing().usage if use.name == f"{unit}_per_day")
        if use.reserved == 0:
            break
        await asyncio.sleep(0.01)
    return use.spent, use.reserved


def reply(prompt_tokens: int | None = 5, completion_tokens: int | None = 100) -> Reply:
    return Reply("hi", Finish.STOP, 0.1, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)


async def test_a_call_is_reserved_at_its_worst_and_charged_at_its_price(tmp_path):
    async with governed(tmp_path, usd_per_day=1.0) as governor:
        bill = governor.bill()
        async with governor.allow("large", LARGE, ASK, bill=bill) as allowed:
            assert governor.standing().usage[2].reserved == pytest.approx(MOST_NANOUSD / 1e9)
            allowed.got(reply())
        assert await day(governor) == (pytest.approx((5 * 1_000 + 100 * 10_000) / 1e9), 0)
        (charge,) = bill.charges
        assert charge.reserved == Amount(MOST_NANOUSD) and charge.spent == Amount(1_005_000)


async def test_a_call_that_could_pass_a_cap_is_not_made_and_says_why(tmp_path):
    async with governed(tmp_path, usd_per_request=0.01) as governor:
        bill = governor.bill()
        with pytest.raises(SpendingLimit) as caught:
            async with governor.allow("large", LARGE, ASK, bill=bill):
                raise AssertionError("the call was made")
        assert "it may cost up to 0.01005 USD, and usd_per_request is 0.01 USD" in caught.value.happened
        assert "studium governor set usd_per_request=0.011" in caught.value.try_next
        assert governor.told(bill)["refused"] == [{"student": "large", "why": caught.value.happened}]


async def test_the_cap_a_refusal_proposes_is_enough(tmp_path):
    async with governed(tmp_path, usd_per_request=0.01) as governor:
        governor.change({"usd_per_request": 0.011}, by="test")
        async with governor.allow("large", LARGE, ASK) as allowed:
            allowed.got(reply())


async def test_calls_of_one_question_share_its_cap_and_other_questions_do_not(tmp_path):
    async with governed(tmp_path, usd_per_request=0.015) as governor:
        bill = governor.bill()
        async with governor.allow("large", LARGE, ASK, bill=bill):
            with pytest.raises(SpendingLimit):
                await governor.allow("large", LARGE, ASK, bill=bill).__aenter__()
            async with governor.allow("large", LARGE, ASK, bill=governor.bill()):
                pass


async def test_two_hundred_calls_at_once_do_not_pass_a_cap(tmp_path):
    async with governed(tmp_path, usd_per_day=MOST_NANOUSD * 17 / 1e9) as governor:
        may_go = asyncio.Event()
        made = 0

        async def call() -> None:
            nonlocal made
            try:
                async with governor.allow("large", LARGE, ASK):
                    made += 1
                    await may_go.wait()
            except SpendingLimit:
                pass

        calls = [asyncio.create_task(call()) for _ in range(200)]
        async with asyncio.timeout(90):
            while made < 17 or sum(task.done() for task in calls) < 183:
                await asyncio.sleep(0.01)
        may_go.set()
        await asyncio.gather(*calls)
        assert made == 17


@pytest.mark.parametrize(
    ("error", "charged"),
    [
        (HttpRefusal("no key", status=401), 0),
        (HttpRefusal("busy", status=503), 0),
        (UnknownModel("gone"), 0),
        (PromptTooLong("long"), 0),
        (HttpRefusal("it broke over it", status=500), MOST_NANOUSD),
        (HttpRefusal("in mid stream", status=200), MOST_NANOUSD),
        (EngineTimeout("slow"), MOST_NANOUSD),
        (EngineDied("gone in mid stream"), MOST_NANOUSD),
        (asyncio.CancelledError(), MOST_NANOUSD),
    ],
)
async def test_a_call_that_failed_is_charged_in_full_unless_it_surely_cost_nothing(tmp_path, error, charged):
    async with governed(tmp_path) as governor:
        bill = governor.bill()
        with pytest.raises(type(error)):
            async with governor.allow("large", LARGE, ASK, bill=bill):
                raise error
        assert await day(governor) == (pytest.approx(charged / 1e9), 0)
        assert bill.charges[0].assumed == bool(charged)


async def test_a_reply_without_token_counts_is_charged_in_full(tmp_path):
    async with governed(tmp_path) as governor:
        async with governor.allow("large", LARGE, ASK) as allowed:
            allowed.got(reply(completion_tokens=None))
        assert await day(governor) == (pytest.approx(MOST_NANOUSD / 1e9), 0)


async def test_who_is_cancelled_while_it_waits_for_its_reservation_owes_nothing(tmp_path):
    async with governed(tmp_path) as governor:

        async def call() -> None:
            async with governor.allow("large", LARGE, ASK):
                await asyncio.sleep(60)

        with governor._spending.turn():  # the disk is busy
            waiting = asyncio.create_task(call())
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert await day(governor) == (0, 0)


async def test_an_answer_without_a_length_gets_one_where_money_is_capped(tmp_path):
    endless = replace(ASK, sampling=Sampling())
    async with governed(tmp_path, usd_per_day=1.0, max_tokens=64) as governor:
        bill = governor.bill()
        async with governor.allow("large", LARGE, endless, bill=bill) as allowed:
            assert allowed.ask.sampling.max_tokens == 64
        assert governor.told(bill)["shortened"] == {"large": 64}
    async with governed(tmp_path / "other", max_tokens=64) as governor:
        assert governor.allow("large", LARGE, endless).ask.sampling.max_tokens is None


async def test_a_model_without_a_price_is_not_asked_where_money_is_capped(tmp_path):
    async with governed(tmp_path) as governor:
        async with governor.allow("new", NEW, ASK):
            pass
        governor.change({"usd_per_session": 5}, by="test")
        with pytest.raises(SpendingLimit, match="the price of unpriced is not known"):
            governor.allow("new", NEW, ASK)


async def test_embeddings_are_charged_by_their_texts(tmp_path):
    async with governed(tmp_path, usd_per_day=1.0) as governor:
        async with governor.allow("vectors", VECTORS, Ask(prompt="some text")) as allowed:
            allowed.got(Embeddings(((0.0,),), 40))
        assert await day(governor) == (pytest.approx(40 * 500 / 1e9), 0)


async def test_gpu_time_is_held_for_the_calls_limit_and_charged_as_measured(tmp_path):
    async with governed(tmp_path, gpu_s_per_day=40.0) as governor:
        async with governor.allow("free", FREE, ASK, on_gpu=True):
            assert (
                next(use for use in governor.standing().usage if use.name == "gpu_s_per_day").reserved == 30
            )
            with pytest.raises(SpendingLimit, match="30 s of GPU time, and gpu_s_per_day is 40 s"):
                await governor.allow("free", FREE, ASK, on_gpu=True).__aenter__()
            async with governor.allow("free", FREE, ASK, on_gpu=False):
                pass
        spent, reserved = await day(governor, "gpu_s")
        assert 0 < spent < 30 and reserved == 0


async def test_what_costs_nothing_touches_no_disk(tmp_path):
    async with governed(tmp_path, usd_per_day=0.0) as governor:
        with governor._spending.turn():  # held by somebody else
            async with governor.allow("free", FREE, ASK, on_gpu=True) as allowed:
                assert allowed.ask is ASK


async def test_changes_hold_at_once_survive_a_restart_and_go_back_to_the_configuration(tmp_path):
    async with governed(tmp_path, usd_per_day=1.0) as governor:
        governor.change({"usd_per_day": "0", "refinement": "off", "force_arbiter": True}, by="ada")
        assert governor.settings.usd_per_day == 0 and not governor.settings.refinement
        with pytest.raises(SpendingLimit):
            await governor.allow("large", LARGE, ASK).__aenter__()
    async with governed(tmp_path, usd_per_day=1.0) as governor:
        assert governor.settings.usd_per_day == 0 and governor.settings.force_arbiter
        assert governor.told(governor.bill()) == {"refinement": False, "force_arbiter": True}
        governor.change({}, reset=("usd_per_day",), by="ada")
        assert governor.settings.usd_per_day == 1.0
        governor.change({"usd_per_day": None}, by="ada")
        assert governor.settings.usd_per_day is None


async def test_another_processs_change_holds_for_the_next_reservation(tmp_path):
    async with governed(tmp_path) as one, governed(tmp_path) as other:
        other.change({"usd_per_hour": 0}, by="ada")
        with pytest.raises(SpendingLimit):
            await one.allow("large", LARGE, ASK).__aenter__()
        assert one.settings.usd_per_hour == 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"usd_per_day": -1}, "usd_per_day cannot be '-1'"),
        ({"usd_per_day": "much"}, "usd_per_day cannot be 'much'"),
        ({"usd_per_day": "nan"}, "usd_per_day cannot be 'nan'"),
        ({"usd_per_day": "inf"}, "usd_per_day cannot be 'inf'"),
        ({"usd_per_day": True}, "usd_per_day cannot be 'true'"),
        ({"usd_per_day": [1]}, "usd_per_day cannot be"),
        ({"refinement": 7}, "refinement cannot be '7'"),
        ({"refinement": None}, "refinement cannot be 'none'"),
        ({"usd_per_dya": 1}, "no setting 'usd_per_dya'"),
        ({"max_tokens": 1}, "no setting 'max_tokens'"),
    ],
)
async def test_a_wrong_value_changes_nothing(tmp_path, values, said):
    async with governed(tmp_path) as governor:
        with pytest.raises(BadRequest, match=said.replace("[", "\\[")):
            governor.change({"usd_per_hour": 1, **values}, by="ada")
        assert governor.settings.usd_per_hour is None


async def test_a_setting_nobody_can_read_ends_paying_until_it_is_set_anew(tmp_path):
    async with governed(tmp_path) as governor:
        with governor._spending.turn() as turn:
            turn.change("usd_per_day", "a lot", by="a newer Studium", at=0.0)
        with pytest.raises(StoreUnavailable, match="usd_per_day='a lot'"):
            await governor.allow("large", LARGE, ASK).__aenter__()
        governor.change({"usd_per_day": 1}, by="ada")
        async with governor.allow("large", LARGE, ASK):
            pass


def test_prices_round_up_and_prompts_are_never_counted_short():
    assert nanousd_of(PriceConfig(0.0375, 0.0), 1, 0) == 38
    assert nanousd_of(PriceConfig(0.15, 0.6), 1_000_000, 1_000_000) == 750_000_000
    schema = replace(ASK, json_schema={"type": "object"})
    assert prompt_tokens_at_most(schema) > prompt_tokens_at_most(ASK) > len(b"hello")


def test_a_connection_that_was_refused_cost_nothing():
    from aiohttp import ClientConnectorError

    error = EngineDied("nobody answers")
    error.__cause__ = ClientConnectorError.__new__(ClientConnectorError)
    assert was_never_sent(error) and not was_never_sent(EngineDied("gone"))
