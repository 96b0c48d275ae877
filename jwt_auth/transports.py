"""How a credential travels: header and cookies in, cookies out; and who sent it."""

from __future__ import annotations

import functools
import ipaddress
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from django.core.exceptions import BadRequest, SuspiciousOperation
from django.http import HttpResponse, RawPostDataException, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.middleware.csrf import CsrfViewMiddleware, get_token
from django.urls import Resolver404, resolve
from django.utils.cache import patch_cache_control, patch_vary_headers
from rest_framework.settings import api_settings

from jwt_auth.conf import CookieSettings
from jwt_auth.errors import CookieTooLong, CSRFFailed, InvalidRequest, TokenNotValid
from jwt_auth.tokens.jws import MAX_LENGTH

# Where Django says why it has refused a request.
_csrf_logger = logging.getLogger("django.security.csrf")

# RFC 9110 section 11.1: the scheme is a token, compared without regard to case.
# Leading white space is looked through only to refuse it: nothing is stripped.
_BEARER = re.compile(r"\s*bearer(?![A-Za-z0-9!#$%&'*+.^_`|~-])", re.IGNORECASE | re.ASCII)
# RFC 6750 section 2.1: "Bearer" 1*SP b64token, and no other white space but SP.
# Without regard to case for the scheme alone: for each letter of a token it would take time.
_CREDENTIALS = re.compile(r"(?i:bearer) +([A-Za-z0-9\-._~+/]+=*)", re.ASCII)
# RFC 9110 section 5.3: several fields of one name arrive joined by commas.
_ANOTHER_BEARER = re.compile(r",\s*bearer\s", re.IGNORECASE | re.ASCII)
_ROOM_FOR_SCHEME = len("Bearer ")
# Left on a request whose CSRF check was waived for a token in the header.
_WAIVED = "_jwt_auth_waived_csrf"
# Left on a request of which the log knows that it was refused.
_RECORDED = "_jwt_auth_recorded_csrf"
# What Django raises of a body that it cannot read.
_UNREADABLE = (
    BadRequest,
    LookupError,
    MultiPartParserError,
    RawPostDataException,
    SuspiciousOperation,
    UnreadablePostError,
)
# RFC 6265bis section 5.6: of name and value, together.
MAX_COOKIE = 4096
# An empty form is its last boundary alone, which has up to 70 characters (RFC 2046 section 5.1.1).
MAX_EMPTY_FORM_SIZE = 256
# Set on a view that refuses forms, the empty one excepted.
READS_NO_FORM = "jwt_auth_reads_no_form"


class HiddenText(str):
    """A token that its ``repr()`` does not show: error reporters print variables by it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<hidden>"


def authorization(request: Any) -> str:
    """Return the ``Authorization`` header of *request*, empty without one."""
    return str(request.META.get("HTTP_AUTHORIZATION", ""))


def content_length(request: Any) -> int:
    """Return the ``Content-Length`` of *request* as Django reads it; 0 for a chunked body."""
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def is_empty_form(request: Any) -> bool:
    """Tell whether the body of *request* is a multipart form without a field.

    Some clients, Django's test client for one, send it where no body is meant. The body is
    compared and not parsed, since a parser of forms writes their files to the disk.
    """
    if request.content_type != "multipart/form-data":
        return False
    if not 0 < content_length(request) <= MAX_EMPTY_FORM_SIZE:
        return False
    try:
        body = request.body
    except RawPostDataException:
        # A middleware has had Django parse it.
        return not request.POST and not request.FILES
    # RFC 2046 section 5.1.1: the close-delimiter.
    close = f"--{request.content_params.get('boundary', '')}--"
    return bool(body.strip() == close.encode())


def view_of(request: Any) -> Callable[..., Any] | None:
    """Return the view that *request* is for, whether it was reached or not."""
    match = request.resolver_match
    if match is None:
        with suppress(Resolver404):
            match = resolve(request.path_info, getattr(request, "urlconf", None))
    return None if match is None else match.func


def cookie_tokens(request: Any, name: str) -> list[str]:
    """Return the tokens in the cookies *name* of *request*. Their form is not checked.

    A browser sends several after a change of ``DOMAIN`` or of the include's path, or if
    another host of the domain has set one.
    """
    value: str | None = request.COOKIES.get(name)
    if value is None:
        return []
    values = cookie_values(request, name)
    return [HiddenText(one) for one in (values if len(values) > 1 else [value])]


def cookie_values(request: Any, name: str) -> list[str]:
    """Return the values of all cookies *name* that *request* has brought."""
    pairs = [pair.partition("=") for pair in request.META.get("HTTP_COOKIE", "").split(";")]
    return [value.strip() for key, _, value in pairs if key.strip() == name]


def set_cookie(
    response: Any, name: str, value: str, max_age: int, path: str, cookies: CookieSettings
) -> None:
    """Have the browser keep *value* for *max_age* seconds; 0 has it forget the cookie.

    Raises:
        CookieTooLong: browsers would drop it without a word.
    """
    if len(name) + len(value) > MAX_COOKIE:
        raise CookieTooLong(name, len(name) + len(value))
    response.set_cookie(
        name,
        value,
        max_age=max_age,
        path=path,
        domain=cookies.domain,
        secure=True,
        httponly=True,
        samesite=cookies.samesite,
    )


def forget_cookie(response: Any, name: str, path: str, cookies: CookieSettings) -> None:
    """Have the browser forget the cookie *name*, today's and those of earlier settings."""
    forget_other_cookies(response, name, path, cookies)
    set_cookie(response, name, "", 0, path, cookies)


def forget_other_cookies(response: Any, name: str, path: str, cookies: CookieSettings) -> None:
    """Have the browser forget all cookies *name* but today's, which is of *path*.

    A browser keeps one cookie for each name, domain and path. These settings can name the
    cookies without a domain and those of the include's parent paths. They do not name an
    earlier domain: only the request could, and its ``Host`` is the client's to choose.
    Call this before today's cookie is set. Browsers that compare domains as RFC 6265
    section 5.3 does take a cookie of ``DOMAIN`` and one of the same host for one.
    """
    for domain in dict.fromkeys((None, cookies.domain)):
        for parent in _parent_paths(path):
            if (domain, parent) == (cookies.domain, path):
                continue
            deletion = HttpResponse()
            set_cookie(deletion, name, "", 0, parent, replace(cookies, domain=domain))
            # Django keeps one cookie for each key, and sends the name of the cookie itself.
            response.cookies[f"{name} {domain} {parent}"] = deletion.cookies[name]


def _parent_paths(path: str) -> list[str]:
    """Return *path*, which ends in a slash, and all paths above it."""
    return [path[: place + 1] for place, letter in enumerate(path) if letter == "/"]


def forget_access_cookie(response: Any, cookies: CookieSettings | None) -> None:
    """Have the browser forget the access token, if it is in a cookie."""
    if cookies is not None and cookies.access is not None:
        forget_cookie(response, cookies.access, "/", cookies)


def vary_on(response: Any, headers: str) -> None:
    """Tell caches that *response* depends on *headers* (RFC 9110 section 12.5.5)."""
    # has_header() takes four times as long, and patch_vary_headers() ten times.
    if response.get("Vary") is None:
        response.headers["Vary"] = headers
    else:
        patch_vary_headers(response, headers.split(", "))


def make_private(response: Any) -> None:
    """Keep *response* out of shared caches, which do not see that a cookie is a credential.

    RFC 9111 section 3.5. What a view says of it by itself stands.
    """
    said = response.get("Cache-Control", "")
    if not any(one in said for one in ("private", "no-store", "public")):
        patch_cache_control(response, private=True)


def waive_csrf(request: Any) -> None:
    """Have Django ask for no CSRF token: the credential of *request* is in the header."""
    if not getattr(request, "_dont_enforce_csrf_checks", False):
        request._dont_enforce_csrf_checks = True
        setattr(request, _WAIVED, True)


def is_unsafe(request: Any) -> bool:
    """Tell whether the method of *request* may change something (RFC 9110 section 9.2.1)."""
    return request.method not in {"GET", "HEAD", "OPTIONS", "TRACE"}


def csrf_token(request: Any) -> str:
    """Return the CSRF token of whoever sent *request*: of its cookie, if there is one."""
    _CSRFCheck().process_request(request)
    return str(get_token(request))


class _CSRFCheck(CsrfViewMiddleware):
    """Django's own check, that returns why instead of answering."""

    def __init__(self) -> None:
        super().__init__(lambda request: HttpResponse())

    def _reject(self, request: Any, reason: str) -> Any:
        return reason

    def failure(self, request: Any) -> str | None:
        """Return why *request* is refused, in Django's words; `None` if it passes."""
        waived = getattr(request, _WAIVED, False)
        # What was waived, or held, for a token in the header says nothing of a cookie.
        before = {
            name: getattr(request, name)
            for name in ("_dont_enforce_csrf_checks", "csrf_processing_done")
            if waived and hasattr(request, name)
        }
        for name in before:
            setattr(request, name, False)
        try:
            if _is_refused_form(request):
                # Django would parse it, uploads included, to look for the token.
                return "The view takes no form."
            return self._failure(request)
        except _UNREADABLE:
            # The body is looked at for a token, and may be none.
            return "The body cannot be read."
        finally:
            for name, value in before.items():
                setattr(request, name, value)

    def _failure(self, request: Any) -> str | None:
        self.process_request(request)
        # Against a view that is not exempt, whatever the real one is.
        view: Any = _unsafe_view
        # What _reject() returns, which is no answer here.
        reason: Any = self.process_view(request, view, (), {})
        return None if reason is None else str(reason)

    def trusts_origin(self, request: Any) -> bool:
        trusted: bool = self._origin_verified(request)  # type: ignore[attr-defined]
        return trusted


def _is_refused_form(request: Any) -> bool:
    """Tell whether *request* brings a form to a view that is going to refuse it."""
    if request.content_type != "multipart/form-data":
        return False
    return getattr(view_of(request), READS_NO_FORM, False) and not is_empty_form(request)


def _unsafe_view(request: Any) -> None:
    """Stand for a view that wants a CSRF token."""


def demand_own_site(request: Any) -> None:
    """Refuse a *request* that another site has its visitors' browsers send.

    By what browsers say: ``Origin``, which has to be this host or one of
    ``CSRF_TRUSTED_ORIGINS``; without it ``Sec-Fetch-Site``. Who says neither is no browser.

    Raises:
        CSRFFailed: it is.
    """
    origin = request.META.get("HTTP_ORIGIN")
    if origin is not None:
        if not _CSRFCheck().trusts_origin(request):
            # Behind a proxy that ends TLS, say, nothing else tells what is wrong.
            here = f"this host's by {request.scheme}"
            raise CSRFFailed(f"{origin[:100]!a} is neither {here} nor in CSRF_TRUSTED_ORIGINS")
    elif request.META.get("HTTP_SEC_FETCH_SITE") == "cross-site":
        raise CSRFFailed("Sec-Fetch-Site is cross-site")


def demand_csrf_token(request: Any) -> None:
    """Refuse an unsafe *request* without Django's CSRF token, or from another site.

    A safe one passes.

    Raises:
        CSRFFailed: it has none.
    """
    if not is_unsafe(request):
        return
    demand_own_site(request)
    failure = _CSRFCheck().failure(request)
    if failure is not None:
        # Django quotes the whole Referer, in whose query may be a token.
        raise CSRFFailed("the Referer is of another site" if "://" in failure else failure)


def record_refusal(request: Any, refusal: Exception) -> None:
    """Log why *request* is answered *refusal*, as Django does, if that is for the CSRF check.

    *request* is Django's or DRF's. Once: middleware and view may both have something to answer.
    """
    request = getattr(request, "_request", request)
    if isinstance(refusal, CSRFFailed) and not getattr(request, _RECORDED, False):
        setattr(request, _RECORDED, True)
        _csrf_logger.warning(
            "Forbidden (%s): %s",
            refusal,
            ascii(request.path)[1:-1][:100],
            extra={"status_code": refusal.status, "request": request},
        )


def give_csrf_token(request: Any, response: Any) -> None:
    """Have *response* set the CSRF cookie, if the token was asked for on the way."""
    _CSRFCheck().process_response(request, response)


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
    proxies = number_of_proxies()
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR")
    if proxies and forwarded:
        hops = forwarded.split(",")
        text = hops[-min(proxies, len(hops))]
    text = text.strip()
    # No address is as long, with a port or a zone; and whatever comes is not to be kept.
    return _address(text) if len(text) <= 80 else None


@functools.lru_cache(1024)
def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(_without_port(text)))
    except ValueError:
        return None


def number_of_proxies() -> int | None:
    """Return DRF's ``NUM_PROXIES``; `None` if it is unset, or not one from 0 on: a check warns."""
    proxies = api_settings.NUM_PROXIES
    return proxies if type(proxies) is int and proxies >= 0 else None


def _without_port(text: str) -> str:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    # A zone, as in fe80::1%eth0, is this host's own name for an interface.
    return text.partition("%")[0]


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
    return None if text is None else _countable(text, number_of_proxies() is None)


@functools.lru_cache(1024)
def _countable(text: str, may_be_a_proxy: bool) -> str | None:
    address = ipaddress.ip_address(text)
    if address.version == 6 and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if may_be_a_proxy and any(address in one for one in _SHARED_NETWORKS):
        return None
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))


def storable(text: str, length: int) -> str:
    """Return *text*, which a client chose, as a database takes it, cut to *length*."""
    return text.replace("\x00", "")[:length].encode("utf-8", "replace").decode("utf-8")
