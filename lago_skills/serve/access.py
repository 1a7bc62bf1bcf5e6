"""Who may ask: whoever is on this machine; from elsewhere, whoever has the token."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from lago_skills.errors import StudyError

LEAST_TOKEN = 16
"""Characters."""


@dataclass(frozen=True)
class Access:
    """With a token, whoever sends it. Without, only requests that name this machine as their host, and no page of another site."""

    token: str | None = None

    def __post_init__(self) -> None:
        """Refuse a token that can be guessed.

        Raises:
            StudyError: it is too short.
        """
        if self.token is not None and len(self.token) < LEAST_TOKEN:
            raise StudyError(
                f"found a token of {len(self.token)} characters; expected at least {LEAST_TOKEN}; make one with: python -c 'import secrets; print(secrets.token_urlsafe())'"
            )

    def problem(self, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Status and sentence for a request with these headers that may not ask; None where it may."""
        if self.token is not None:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            if scheme.lower() in ("bearer", "api-key") and hmac.compare_digest(given.encode(), self.token.encode()):
                return None
            return (
                401,
                "found no valid token; expected it in the Authorization header, after Bearer or Api-Key; send it there",
            )
        if not on_this_machine(_host(f"//{headers.get('host', 'localhost')}")):
            return (
                403,
                "found a request for another host; expected one for this machine; start the service with a token to be asked from elsewhere",
            )
        if (origin := headers.get("origin")) is not None and not on_this_machine(_host(origin)):
            return (
                403,
                "found a page of another site; expected one of this machine; start the service with a token to be asked from elsewhere",
            )
        return None


def _host(address: str) -> str:
    """The host of an address; empty where it has none, as a page without an origin of its own says `null`."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def on_this_machine(host: str) -> bool:
    """Whether a host's name or address is that of the loopback interface."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_address(host: str, access: Access) -> None:
    """Refuse to listen beyond this machine without a token.

    Raises:
        StudyError: it would.
    """
    if access.token is None and not on_this_machine(host):
        raise StudyError(
            f"found --host {host} without a token; expected one, since others could ask from there; put one into a file and add --token-file FILE, or listen on 127.0.0.1"
        )
