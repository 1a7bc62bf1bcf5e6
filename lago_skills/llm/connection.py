"""The connection to an endpoint: address, key, headers, proxies, certificates. The only door to the `httpx2` package.

What can be known to be wrong before anything is sent is refused here, in a sentence that names the variable or the setting; no text that
leaves this module holds the key.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import urllib.request
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2

from lago_skills.errors import EndpointError
from lago_skills.llm.config import LiveConfig
from lago_skills.llm.secret_values import NAMES, Secrets

OPENAI = "https://api.openai.com/v1"
MAX_BODY_BYTES = 8_000_000
PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
LOCAL = ("localhost", "127.0.0.1", "::1")


class NotSent(Exception):
    """The request never reached a server."""


class Broken(Exception):
    """The connection broke, or took too long, when the request may have arrived; with what had come back until then."""

    def __init__(self, why: str, came: Answered | None) -> None:
        super().__init__(why)
        self.came = came


class TooLong(Exception):
    """The reply has too many bytes to be an answer."""


@dataclass(frozen=True)
class Answered:
    """What a server sent back."""

    status: int
    headers: httpx2.Headers
    body: bytes | bytearray


@dataclass
class Connection:
    """A client of one endpoint; use it as an asynchronous context."""

    config: LiveConfig
    url: httpx2.URL
    secrets: Secrets
    _client: httpx2.AsyncClient = field(repr=False)

    @property
    def host(self) -> str:
        """Who answers, as transcripts name it."""
        return self.url.host or "unknown host"

    async def __aenter__(self) -> Connection:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._client.__aexit__(*error)

    async def post(self, body: dict[str, Any], idempotency_key: str) -> Answered:
        """Send a request and wait for all of its reply.

        Raises:
            NotSent: nobody took it.
            Broken: it may have arrived, and there is no whole reply.
            TooLong: the reply is endless.
        """
        # A gateway that knows the header answers a repeated attempt from its memory instead of billing it again.
        headers = {"Idempotency-Key": idempotency_key, "content-type": "application/json"}
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        came: Answered | None = None
        try:
            async with (
                asyncio.timeout(self.config.timeout_s),
                self._client.stream("POST", self.url, content=content, headers=headers) as response,
            ):
                received = bytearray()
                came = Answered(response.status_code, response.headers, received)
                async for chunk in response.aiter_bytes():
                    received += chunk
                    if len(received) > MAX_BODY_BYTES:
                        raise TooLong(
                            f"found a reply of more than {MAX_BODY_BYTES:,} bytes; expected an answer; not recorded"
                        )
                return came
        except TimeoutError as error:
            raise Broken(
                f"found no whole answer after {self.config.timeout_s:g} s; a slow model may need more: raise plan.live.timeout_s",
                came,
            ) from error
        except httpx2.ConnectTimeout as error:
            raise NotSent(
                f"found that {self.address} took no connection within {self.config.connect_timeout_s:g} s; raise "
                "plan.live.connect_timeout_s, or check plan.live.base_url"
            ) from error
        except (httpx2.ConnectError, httpx2.PoolTimeout, httpx2.ProxyError) as error:
            raise NotSent(self._not_connected(error)) from error
        except (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, UnicodeEncodeError) as error:
            raise NotSent(f"found a request that cannot be sent ({self._said(error)}); check plan.live") from error
        except (httpx2.TransportError, httpx2.DecodingError, httpx2.StreamError, OSError) as error:
            raise Broken(f"found the connection broken ({type(error).__name__}: {self._said(error)})", came) from error

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.url.host}:{self.url.port or {'https': 443}.get(self.url.scheme, 80)}"

    def _not_connected(self, error: Exception) -> str:
        said = self._said(error)
        if "certificate" in said.lower() or "ssl" in said.lower():
            return (
                f"found a connection to {self.address} whose certificate or encryption is not accepted ({said}); expected one that is; point "
                "SSL_CERT_FILE at your organisation's certificates, or write http:// in plan.live.base_url if the server speaks no TLS"
            )
        if isinstance(error, httpx2.ProxyError):
            return f"found a proxy that did not let us through ({said}); expected a way to {self.address}; check {_proxy_variable() or 'its address'}"
        proxy = "" if _bypassed(self.url.host) else _proxy_variable()
        through = f", or correct the proxy in {proxy}" if proxy else ""
        return f"found that nobody listens at {self.address} ({said}); expected a server; start it, or correct plan.live.base_url{through}"

    def _said(self, error: Exception) -> str:
        return self.secrets.removed_from(str(error) or type(error).__name__)


def open_connection(config: LiveConfig) -> Connection:
    """A connection to the endpoint of a study; nothing is sent yet.

    Raises:
        EndpointError: an address, key, header, proxy or certificate file that cannot be used.
    """
    key = _key(config)
    headers = {name: _header(name, value) for name, value in config.headers.items()}
    query = {name: _header(name, value) for name, value in config.query.items()}
    told = [(name, value, headers[name]) for name, value in config.headers.items()]
    told += [(name, value, query[name]) for name, value in config.query.items()]
    hidden = [value for name, written, value in told if written.startswith("$") or NAMES.search(name)]
    if not any(name.lower() in ("authorization", "api-key") for name in headers):
        headers["authorization"] = f"Bearer {key or 'none'}"
    for variable, name in (("OPENAI_ORG_ID", "OpenAI-Organization"), ("OPENAI_PROJECT_ID", "OpenAI-Project")):
        if config.base_url is None and (value := os.environ.get(variable, "").strip()):
            headers[name] = _header(variable, value)
    url = _address(config, query)
    secrets = Secrets.of((key, urlsplit(str(url)).password or "", *hidden))
    # The connection's own limit comes first: what was never sent must not look as if it had been.
    timeout = httpx2.Timeout(config.timeout_s, connect=min(config.connect_timeout_s, 0.9 * config.timeout_s))
    trusted = not _bypassed(url.host)
    try:
        verify: Any = _certificates() if url.scheme == "https" else True
        client = httpx2.AsyncClient(headers=headers, timeout=timeout, trust_env=trusted, verify=verify)
    except (ImportError, ValueError) as error:
        raise EndpointError(
            f"found a proxy in {_proxy_variable() or 'the environment'} that cannot be used ({secrets.removed_from(str(error))}); expected "
            f"http://HOST:PORT; unset the variable, add {url.host} to NO_PROXY, or for a SOCKS proxy: pip install 'httpx2[socks]'"
        ) from error
    except OSError as error:
        named = ", ".join(f"{name}={os.environ[name]!r}" for name in CERTIFICATES if name in os.environ)
        raise EndpointError(
            f"found certificates that cannot be read ({named or 'of the system'}: {error}); expected a file of PEM certificates; correct "
            "the variable or unset it"
        ) from error
    return Connection(config, url, secrets, client)


def _certificates() -> ssl.SSLContext:
    """The system's certificates, and those that the environment names: whether or not there is a proxy.

    Raises:
        OSError: they cannot be read.
    """
    context = ssl.create_default_context()
    if named := os.environ.get("SSL_CERT_FILE"):
        context.load_verify_locations(cafile=named)
    return context


def _key(config: LiveConfig) -> str:
    """The key, without what copying adds around it.

    Raises:
        EndpointError: a character that a header cannot have.
    """
    variable = config.key_variable
    key = os.environ.get(variable, "").strip().strip("\u00a0\ufeff\u200b")
    wrong = next((f"U+{ord(c):04X} as character {n}" for n, c in enumerate(key, start=1) if not "!" <= c <= "~"), None)
    if wrong or (key and key[0] in "\"'"):
        raise EndpointError(
            f"found {wrong or 'a quote as character 1'} of the key in {variable}; expected visible ASCII characters without quotes around them; "
            "copy the key again (it is not shown here)"
        )
    return key


def _header(name: str, value: str) -> str:
    """A header's value, read from the environment where it is `$NAME`.

    Raises:
        EndpointError: the variable is not set, or name or value cannot be sent.
    """
    if value.startswith("$"):
        variable = value[1:]
        if variable not in os.environ:
            raise EndpointError(
                f"found {name} = {value!r} under [plan.live] and no such environment variable; expected its value; set {variable}"
            )
        value = os.environ[variable].strip()
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not all(" " <= each <= "~" for each in value):
        raise EndpointError(
            f"found {name} with characters that a header cannot have; expected visible ASCII; correct it, under [plan.live] or in the variable"
        )
    return value


def _address(config: LiveConfig, query: dict[str, str]) -> httpx2.URL:
    """Where requests are sent.

    Raises:
        EndpointError: no address of the web.
    """
    base = (config.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI).strip()
    shown = re.sub(r"^([A-Za-z]+://)?.*@", r"\1", base)
    try:
        url = httpx2.URL(base.rstrip("/") + "/" + config.path.lstrip("/"))
        usable = url.scheme in ("http", "https") and bool(url.host) and 0 < (url.port or 80) < 65536
        if query:
            url = url.copy_merge_params(query)
    except (httpx2.InvalidURL, ValueError, TypeError) as error:
        raise EndpointError(
            f"found plan.live.base_url = {shown!r} ({error}); expected http://HOST/v1; correct it"
        ) from error
    if not usable:
        raise EndpointError(
            f"found plan.live.base_url = {shown!r}; expected an address that begins with http:// or https:// and has a host and a "
            "possible port, such as http://localhost:11434/v1; correct it"
        )
    return url


def _bypassed(host: str) -> bool:
    """Whether no proxy is meant for this host: this machine, or one that NO_PROXY names."""
    return host in LOCAL or bool(urllib.request.proxy_bypass(host))


def _proxy_variable() -> str | None:
    return next((n for name in PROXIES for n in (name, name.lower()) if os.environ.get(n)), None)
