"""How a credential travels: the ``Authorization`` header in, and who sent it."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from rest_framework.settings import api_settings

from jwt_auth.errors import InvalidRequest, TokenNotValid
from jwt_auth.tokens.jws import MAX_LENGTH

# RFC 9110 section 11.1: the scheme is a token, compared without regard to case.
# Leading white space is looked through only to refuse it: nothing is stripped.
_BEARER = re.compile(r"\s*bearer(?![A-Za-z0-9!#$%&'*+.^_`|~-])", re.IGNORECASE | re.ASCII)
# RFC 6750 section 2.1: "Bearer" 1*SP b64token, and no other white space but SP.
_CREDENTIALS = re.compile(r"bearer +([A-Za-z0-9\-._~+/]+=*)", re.IGNORECASE | re.ASCII)
# RFC 9110 section 5.3: several fields of one name arrive joined by commas.
_ANOTHER_BEARER = re.compile(r",\s*bearer\s", re.IGNORECASE | re.ASCII)
_ROOM_FOR_SCHEME = len("Bearer ")


def authorization(request: Any) -> str:
    """Return the ``Authorization`` header of *request*, empty without one."""
    return str(request.META.get("HTTP_AUTHORIZATION", ""))


def bearer_token(request: Any) -> str | None:
    """Return the token of the ``Authorization`` header of *request*.

    *request* is Django's or DRF's. `None` means no header, or another scheme:
    somebody else may know what to do with it. The token's own form is not looked at.

    Raises:
        InvalidRequest: the scheme is Bearer and the rest is not one token. Several
            header fields arrive joined by commas and end here too.
        TokenNotValid: too long to be looked at.
    """
    header = authorization(request)
    if _BEARER.match(header) is None:
        if _ANOTHER_BEARER.search(header):
            raise InvalidRequest("two credentials")
        return None
    if len(header) > _ROOM_FOR_SCHEME + MAX_LENGTH:
        raise TokenNotValid("too long")
    credentials = _CREDENTIALS.fullmatch(header)
    if credentials is None:
        raise InvalidRequest("expected one token after Bearer")
    return credentials[1]


def client_address(request: Any) -> str | None:
    """Return the address that *request* came from, as DRF's ``NUM_PROXIES`` says.

    Unset or 0, ``X-Forwarded-For`` is not read: anybody can write it. `None` for
    what is no address, such as a Unix socket.
    """
    text = request.META.get("REMOTE_ADDR", "")
    proxies = api_settings.NUM_PROXIES
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR")
    if proxies and forwarded:
        hops = forwarded.split(",")
        text = hops[-min(proxies, len(hops))]
    try:
        # A zone, as in fe80::1%eth0, is this host's own name for an interface.
        return str(ipaddress.ip_address(text.strip().partition("%")[0]))
    except ValueError:
        return None


# Everybody's, behind a proxy that nobody has configured.
_SHARED_NETWORKS = [
    ipaddress.ip_network(one)
    for one in (
        "0.0.0.0/32",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::/127",
        "fc00::/7",
        "fe80::/10",
    )
]


def countable_address(request: Any) -> str | None:
    """Return what tries of the client that sent *request* are counted by.

    An IPv4 address, or the network of 64 bits that an IPv6 client has to itself. `None` for
    none, and, unless DRF's ``NUM_PROXIES`` is set, for a private or loopback address: that
    of a proxy, and of everybody behind it.
    """
    text = client_address(request)
    if text is None:
        return None
    address = ipaddress.ip_address(text)
    if address.version == 6 and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if not api_settings.NUM_PROXIES and any(address in one for one in _SHARED_NETWORKS):
        return None
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))


def storable(text: str, length: int) -> str:
    """Return *text*, which a client chose, as a database takes it, cut to *length*."""
    return text.replace("\x00", "")[:length].encode("utf-8", "replace").decode("utf-8")
