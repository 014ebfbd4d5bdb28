"""Who may come in: API keys, the browser's tricks on loopback, and how many requests one key may have open.

Without keys only this machine is served: a `Host` that is not loopback is DNS rebinding, a foreign
`Origin` is somebody's web page. With keys, they are compared in constant time and named in logs by a
fingerprint only.
"""

import hashlib
import ipaddress
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from aiohttp import web

from studium.config.schema import ServerConfig
from studium.errors import ConfigurationError
from studium.web.failures import Refused

_SHORTEST_KEY = 8
_FINGERPRINT_DIGITS = 8


class Gate:
    """Lets requests in by key, or by being local where there are no keys."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        """`keys` maps a key's name in logs to the key; empty where none are configured."""
        self._keys = {name: key.encode() for name, key in keys.items()}

    def admit(self, request: web.BaseRequest) -> str:
        """Return the name of the caller's key, "" where none is needed. Raises Refused (401 or 403)."""
        if self._keys:
            return self._key_name(request.headers.get("Authorization", ""))
        _check_local(request)
        return ""

    def _key_name(self, authorization: str) -> str:
        scheme, _, shown = authorization.partition(" ")
        # Every key is compared, so that the time taken does not say which one nearly matched.
        token = shown.strip().encode("utf-8", "surrogateescape")
        names = [name for name, key in self._keys.items() if secrets.compare_digest(token, key)]
        if scheme.lower() != "bearer" or not names:
            raise Refused(
                401,
                "invalid_api_key",
                "the API key is missing or unknown",
                expected="the header Authorization: Bearer KEY",
                try_next="ask whoever runs this server for a key",
            )
        return names[0]


class Crowd:
    """Counts the open questions of each key."""

    def __init__(self, most_per_key: int) -> None:
        self._most = most_per_key
        self._open: dict[str, int] = {}

    @contextmanager
    def place(self, key_name: str) -> Iterator[None]:
        """Hold one place while a question is answered. Raises Refused (429)."""
        taken = self._open.get(key_name, 0)
        if taken >= self._most:
            raise Refused(
                429,
                "too_many_requests",
                f"{taken} requests of this key are open",
                expected=f"at most {self._most} at once",
                try_next="wait for one to end or raise server.concurrent_requests_per_key",
                retry_after_s=1,
            )
        self._open[key_name] = taken + 1
        try:
            yield
        finally:
            self._open[key_name] -= 1
            if not self._open[key_name]:
                del self._open[key_name]


def gate_of(server: ServerConfig, environment: Mapping[str, str] = os.environ) -> Gate:
    """Return the gate that `server` asks for.

    Raises ConfigurationError where the variable named holds no usable key, and where an address other than
    loopback would be served without one.
    """
    keys = _keys(server.api_keys_env, environment) if server.api_keys_env else []
    if not keys and not is_loopback(server.host):
        raise ConfigurationError(
            f"server.host is {server.host}, which other machines can reach, and no API key is set",
            expected="a key, or a loopback address such as 127.0.0.1",
            try_next="export STUDIUM_API_KEYS=your-secret and set server.api_keys_env: STUDIUM_API_KEYS",
        )
    return Gate({_fingerprint(key): key for key in keys})


def own_key(server: ServerConfig, environment: Mapping[str, str] = os.environ) -> str:
    """Return a key that this server lets in, for what it begins itself; "" where none is needed."""
    return _keys(server.api_keys_env, environment)[0] if server.api_keys_env else ""


def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or an address, is this machine itself."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _keys(variable: str, environment: Mapping[str, str]) -> list[str]:
    keys = [key.strip() for key in environment.get(variable, "").split(",") if key.strip()]
    short = [key for key in keys if len(key) < _SHORTEST_KEY]
    if keys and not short:
        return keys
    found = f"a key of {len(short[0])} characters" if short else "no key"
    raise ConfigurationError(
        f"server.api_keys_env names {variable}, which holds {found}",
        expected=f"keys of at least {_SHORTEST_KEY} characters, separated by commas",
        try_next=f"export {variable}=$(openssl rand -hex 24)",
    )


def _fingerprint(key: str) -> str:
    return "key-" + hashlib.sha256(key.encode()).hexdigest()[:_FINGERPRINT_DIGITS]


def _check_local(request: web.BaseRequest) -> None:
    host = _host_name(f"//{request.headers.get('Host', '')}")
    if not is_loopback(host):
        raise Refused(
            403,
            "host_not_allowed",
            f"the Host header says {host[:80]!r}",
            expected="localhost or a loopback address, as no API key is configured",
            try_next="set server.api_keys_env to serve under another name",
        )
    origin = request.headers.get("Origin")
    if origin is not None and not is_loopback(_host_name(origin)):
        raise Refused(
            403,
            "origin_not_allowed",
            f"a web page of {origin[:80]!r} sent this request",
            expected="no Origin header, or one of this machine, as no API key is configured",
        )


def _host_name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
