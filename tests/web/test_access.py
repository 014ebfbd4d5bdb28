"""Keys, and who is let in where there are none."""

import pytest
from aiohttp.test_utils import make_mocked_request

from studium.config.schema import ServerConfig
from studium.errors import ConfigurationError
from studium.web.access import gate_of, is_loopback
from studium.web.server import serve

KEYS = "first-secret, second-secret"
ENVIRONMENT = {"STUDIUM_API_KEYS": KEYS}


@pytest.fixture
def keyed(house, monkeypatch):
    monkeypatch.setenv("STUDIUM_API_KEYS", KEYS)
    house.limit(api_keys_env="STUDIUM_API_KEYS")
    return house


async def test_a_key_opens_the_door_and_its_name_in_the_log_is_not_the_key(keyed, serving):
    async with serving(keyed) as caller:
        headers = {"Authorization": "Bearer second-secret"}
        async with caller.get("/v1/models", headers=headers) as response:
            assert response.status == 200
    name = keyed.store.records[0].api_key_name
    assert name.startswith("key-") and "secret" not in name


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Bearer",
        "Bearer wrong",
        "Basic first-secret",
        "first-secret",
        f"Bearer {KEYS}",
        "Bearer é",
    ],
)
async def test_without_a_known_key_the_protocols_own_401_is_given(keyed, serving, authorization):
    headers = {"Authorization": authorization} if authorization else {}
    async with serving(keyed) as caller:
        async with caller.get("/v1/models", headers=headers) as response:
            assert response.status == 401 and response.headers["WWW-Authenticate"] == "Bearer"
            assert (await response.json())["error"]["type"] == "authentication_error"
        async with caller.get("/api/tags", headers=headers) as response:
            assert response.status == 401 and isinstance((await response.json())["error"], str)


async def test_health_needs_no_key_and_metrics_do(keyed, serving):
    async with serving(keyed) as caller:
        async with caller.get("/healthz") as response:
            assert response.status == 200
        async with caller.get("/metrics") as response:
            assert response.status == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8377", "127.0.0.1.nip.io", "10.0.0.1", "", "["]
)
async def test_a_host_that_is_not_this_machine_is_dns_rebinding(caller, host):
    async with caller.get("/v1/models", headers={"Host": host}) as response:
        assert response.status == 403
        assert (await response.json())["error"]["code"] == "host_not_allowed"


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:1", "127.0.0.1", "127.9.9.9:80", "[::1]:8377", "LOCALHOST."]
)
async def test_every_name_of_this_machine_is_taken(caller, host):
    async with caller.get("/v1/models", headers={"Host": host}) as response:
        assert response.status == 200


async def test_a_foreign_web_page_may_not_ask(caller, house):
    for origin in ("https://evil.example", "null"):
        body = {"model": "auto", "messages": [{"role": "user", "content": "x"}]}
        async with caller.post("/v1/chat/completions", body, headers={"Origin": origin}) as response:
            assert response.status == 403
    assert not house.ensemble.queries
    async with caller.get("/v1/models", headers={"Origin": "http://localhost:3000"}) as response:
        assert response.status == 200


async def test_serving_other_machines_without_a_key_is_refused_at_the_start(house):
    house.limit(host="0.0.0.0")
    with pytest.raises(ConfigurationError, match="no API key"):
        async with serve(house):
            raise AssertionError("it was served")


@pytest.mark.parametrize("value", ["", " , ", "short"])
def test_a_variable_without_a_usable_key_is_refused(value):
    with pytest.raises(ConfigurationError, match="STUDIUM_API_KEYS"):
        gate_of(ServerConfig(api_keys_env="STUDIUM_API_KEYS"), {"STUDIUM_API_KEYS": value})


def test_with_a_key_any_address_may_be_served():
    gate = gate_of(ServerConfig(host="0.0.0.0", api_keys_env="STUDIUM_API_KEYS"), ENVIRONMENT)
    headers = {"Authorization": "Bearer first-secret"}
    assert gate.admit(make_mocked_request("GET", "/", headers=headers)).startswith("key-")


def test_loopback_is_a_matter_of_addresses_not_of_spelling():
    assert all(
        is_loopback(host) for host in ("127.0.0.1", "::1", "[::1]", "localhost", "a.localhost", "127.1.2.3")
    )
    assert not any(
        is_loopback(host) for host in ("0.0.0.0", "::", "", "localhost.evil.example", "127.0.0.1.nip.io")
    )
