"""Documents that another service publishes: fetched within limits, and kept up to date.

A provider may be slow, lie or be down. None of it may cost a request more than a
look into memory, as long as there is something to go on with.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import logging
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    AbstractHTTPHandler,
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from jwt_auth.errors import TokenNotValid

logger = logging.getLogger("jwt_auth")

# For the whole of a fetch, and not for each packet of it.
DEADLINE = 5.0
# A fetch that hangs where nothing can end it, as in a look-up of a name, is left behind.
ABANDONED = 2 * DEADLINE
# Of a status line, headers, and what chunks are wrapped in.
MAX_FRAMING = 64 * 1024
# Whoever needed so long for a document will again; with an old one, nobody waits for it.
LATE = 1.0

T = TypeVar("T")


class FetchFailed(Exception):
    """A document could not be had. The message is ours and quotes nothing of the answer."""


def fetch(url: str, max_size: int, deadline: float = DEADLINE) -> bytes:
    """Return what a GET of *url* answers: a 200, in plain bytes, of at most *max_size*.

    Redirects are not followed, and nothing is unpacked. The proxies and certificates are
    those of the environment (``HTTPS_PROXY``, ``SSL_CERT_FILE``, ``SSL_CERT_DIR``).

    Raises:
        FetchFailed: anything else came, or not all of it within *deadline* seconds. Only
            the look-up of a name may take longer, as the system likes.
    """
    sockets: list[socket.socket] = []
    reach = _Reach(sockets, time.monotonic() + deadline, max_size + MAX_FRAMING)
    opener = OpenerDirector()
    for handler in (ProxyHandler(), HTTPErrorProcessor(), HTTPDefaultErrorHandler()):
        opener.add_handler(handler)
    opener.add_handler(_Handler(urlsplit(url).hostname or "", reach))
    request = Request(url, headers={"Accept": "*/*", "Accept-Encoding": "identity"})  # noqa: S310
    done, overdue = threading.Event(), threading.Event()
    watchdog = threading.Thread(target=_watch, args=(sockets, deadline, done, overdue), daemon=True)
    try:
        watchdog.start()
        # The scheme is one that the handler knows: there is no other.
        with opener.open(request, timeout=deadline) as response:
            if response.status != 200:
                raise FetchFailed(f"status {response.status}")
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise FetchFailed("an encoded body, which was not asked for")
            body: bytes = response.read(max_size + 1)
            if response.length and len(body) <= max_size and not overdue.is_set():
                raise FetchFailed("cut off")
    except FetchFailed:
        raise
    except URLError as error:
        # A status, or what happened below of HTTP.
        status = None
        if isinstance(error, HTTPError):
            status = error.code
            # It is the answer as well, and holds the connection.
            error.close()
        reason = type(error.reason).__name__ if status is None else f"status {status}"
        raise FetchFailed("overdue" if overdue.is_set() else reason) from None
    except (OSError, HTTPException, RuntimeError, ValueError) as error:
        reason = "overdue" if overdue.is_set() else type(error).__name__
        raise FetchFailed(reason) from None
    finally:
        done.set()
        for one in sockets:
            one.close()
    if overdue.is_set():
        # Cut off, which without a Content-Length looks like the end.
        raise FetchFailed("overdue")
    if len(body) > max_size:
        raise FetchFailed(f"more than {max_size} bytes")
    return body


class _Reach:
    """How far the connections of one fetch may go, and which sockets they have."""

    def __init__(self, sockets: list[socket.socket], until: float, most_bytes: int) -> None:
        self.sockets = sockets
        self.most_bytes = most_bytes
        self._until = until

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._until

    def connect(self, address: tuple[str, int], *args: Any) -> socket.socket:
        """Connect to one of the addresses of a host, as socket.create_connection() does.

        Each has a share of the time: one that is silent does not cost the others.
        """
        error: OSError = OSError("no address")
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        for number, (family, kind, protocol, _, target) in enumerate(found):
            left = self._until - time.monotonic()
            one = socket.socket(family, kind, protocol)
            self.sockets.append(one)
            try:
                one.settimeout(max(0.01, left / (len(found) - number)))
                one.connect(target)
            except OSError as failed:
                one.close()
                error = failed
                continue
            one.settimeout(max(0.01, self._until - time.monotonic()))
            return one
        raise error


class _Bounded(io.RawIOBase):
    """What comes over a socket, up to a number of bytes."""

    def __init__(self, raw: Any, most_bytes: int) -> None:
        self._raw = raw
        self._left = most_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        number: int | None = self._raw.readinto(buffer)
        self._left -= number or 0
        if self._left < 0:
            raise OSError("more than was bargained for")
        return number

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Connection(HTTPConnection):
    """Connects and reads within a reach; urllib itself soon forgets the socket."""

    def __init__(self, *args: Any, reach: _Reach, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reach = reach
        self._create_connection = reach.connect

    def response_class(self, sock: socket.socket, *args: Any, **kwargs: Any) -> HTTPResponse:  # type: ignore[override]
        response = HTTPResponse(sock, *args, **kwargs)
        response.fp.close()
        raw = _Bounded(sock.makefile("rb", buffering=0), self._reach.most_bytes)
        response.fp = io.BufferedReader(raw)
        return response


class _TLSConnection(_Connection):
    """As `http.client.HTTPSConnection`, but can be ended while it shakes hands."""

    default_port = 443

    def __init__(self, *args: Any, server: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._server = server

    def connect(self) -> None:
        super().connect()
        if self._reach.is_over:
            raise TimeoutError
        # Who answers has a certificate that this machine trusts (RFC 7517 section 9.1).
        context = ssl.create_default_context()
        tls = context.wrap_socket(
            self.sock, server_hostname=self._server, do_handshake_on_connect=False
        )
        self._reach.sockets.append(tls)
        self.sock = tls
        tls.do_handshake()


class _Handler(AbstractHTTPHandler):
    def __init__(self, server: str, reach: _Reach) -> None:
        super().__init__()
        self._server = server
        self._reach = reach

    def http_open(self, request: Request) -> Any:
        return self.do_open(partial(_Connection, reach=self._reach), request)

    def https_open(self, request: Request) -> Any:
        tls = partial(_TLSConnection, server=self._server, reach=self._reach)
        return self.do_open(tls, request)

    http_request = https_request = AbstractHTTPHandler.do_request_


def _watch(
    sockets: list[socket.socket],
    deadline: float,
    done: threading.Event,
    overdue: threading.Event,
) -> None:
    """End what is not *done* within *deadline* seconds, however far it has come."""
    if done.wait(deadline):
        return
    overdue.set()
    while not done.wait(0.1):
        for one in tuple(sockets):
            # The plain socket's method: that of a TLS socket forgets the session that
            # another thread is reading from.
            with suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)


class _Moment(NamedTuple):
    """A point in time on both clocks.

    The monotonic clock stands still while a machine sleeps, and the wall clock jumps:
    whichever says that more time has passed is believed.
    """

    monotonic: float
    wall: float

    def since(self, earlier: _Moment) -> float:
        """Return how many seconds have passed since *earlier*."""
        return max(abs(self.monotonic - earlier.monotonic), abs(self.wall - earlier.wall))


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When a document is fetched again; all in seconds.

    From the age of `renew_after` on a fetch runs in the background, while the document
    serves. One that nobody has asked for, and that is `lifetime` old, serves no more
    before a fetch was tried, unless the last one failed or took long. Between two
    attempts, failed ones included, there is a `cool_down` at least.
    """

    renew_after: float
    lifetime: float
    cool_down: float


class Attempt:
    """One fetch. With `awaited`, whoever comes meanwhile waits for it."""

    _numbers = itertools.count(1)

    def __init__(self, began: _Moment, *, awaited: bool) -> None:
        self.number = next(self._numbers)
        self.began = began
        self.awaited = awaited
        self.finished: Future[None] = Future()
        # Whoever gives up waiting cannot cancel it for the others.
        self.finished.set_running_or_notify_cancel()


class Followed(Generic[T]):
    """The document at *url*, of at most *max_size* bytes, as *read* understands it.

    *join* makes the new value of what was read and of the last value. No lock is held over a
    fetch, and who has a value does not wait for a thread, but as `Rhythm` says.
    """

    def __init__(
        self,
        url: str,
        *,
        max_size: int,
        read: Callable[[bytes], T],
        join: Callable[[T, T | None], T],
        rhythm: Rhythm,
        clock: Callable[[], float],
    ) -> None:
        self._url = url
        self._max_size = max_size
        self._read = read
        self._join = join
        self._rhythm = rhythm
        self._clock = clock
        self._lock = threading.Lock()
        # The newest value, when the fetch that brought it began, and its number.
        self._found: tuple[T, _Moment, int] | None = None
        self._attempt: Attempt | None = None
        self._failing = False
        self._late = False

    @property
    def value(self) -> T | None:
        """The document as it was last seen; `None` before that."""
        found = self._found
        return None if found is None else found[0]

    @property
    def age(self) -> float:
        """How many seconds ago the document was seen; infinity if never."""
        return self._age(self._now())

    @property
    def in_doubt(self) -> bool:
        """Whether the last attempt brought nothing, or nothing yet."""
        attempt = self._attempt
        return self._failing or (attempt is not None and not attempt.finished.done())

    def renewal(self, *, missing: bool) -> Attempt | None:
        """Have the document fetched, if it is time. Return what the caller has to wait for.

        *missing* says that the caller has nothing to go on with. `None` means that there is
        nothing to wait for: what is there serves, or nothing will come.
        """
        now, attempt = self._now(), self._attempt
        if attempt is not None:
            since = now.since(attempt.began)
            if not attempt.finished.done() and since < ABANDONED:
                return attempt if self._is_awaited(attempt, missing) else None
            if since < self._rhythm.cool_down:
                return None
        if not missing and self._age(now) < self._rhythm.renew_after:
            return None
        with self._lock:
            if self._attempt is attempt:
                # With an old document nobody waits for one that will not come, or not soon.
                old = self._age(now) >= self._rhythm.lifetime
                awaited = old and not self._late and not self.in_doubt
                self._attempt = Attempt(now, awaited=awaited)
                self._start(self._attempt)
            attempt = self._attempt
        assert attempt is not None  # noqa: S101
        return attempt if self._is_awaited(attempt, missing) else None

    def _is_awaited(self, attempt: Attempt, missing: bool) -> bool:
        # Through an outage nobody waits: the last fetch has brought nothing, and neither
        # will this one, as far as anyone can tell.
        return attempt.awaited or (missing and not self._failing)

    def wait(self, attempt: Attempt | None, most: float = math.inf) -> None:
        """Wait until *attempt* has finished, is overdue, or has taken *most* seconds."""
        if attempt is not None:
            with suppress(TimeoutError):
                attempt.finished.result(self._patience(attempt, most))

    async def await_(self, attempt: Attempt | None, most: float = math.inf) -> None:
        """See wait()."""
        if attempt is not None:
            finished = asyncio.wrap_future(attempt.finished)
            with suppress(TimeoutError):
                await asyncio.wait_for(finished, self._patience(attempt, most))

    def _now(self) -> _Moment:
        return _Moment(time.monotonic(), self._clock())

    def _age(self, now: _Moment) -> float:
        found = self._found
        return math.inf if found is None else now.since(found[1])

    def _patience(self, attempt: Attempt, most: float) -> float:
        waited = abs(time.monotonic() - attempt.began.monotonic)
        return max(0.0, min(most, DEADLINE) - waited)

    def _start(self, attempt: Attempt) -> None:
        # A thread for each fetch: there are few, and none is left when a process forks.
        thread = threading.Thread(
            target=self._work, args=(attempt,), name="jwt_auth.fetching", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            logger.exception("No thread could be started to fetch %s.", self._url)
            self._failing = True
            attempt.finished.set_result(None)

    def _work(self, attempt: Attempt) -> None:
        done = False
        try:
            read = self._read(fetch(self._url, self._max_size))
            with self._lock:
                found = self._found
                if found is None or found[2] < attempt.number:
                    # As old as the question, not as the answer.
                    value = self._join(read, None if found is None else found[0])
                    self._found = value, attempt.began, attempt.number
            done = True
        except (FetchFailed, TokenNotValid) as error:
            logger.warning("%s could not be fetched: %s.", self._url, error)
        except Exception as error:  # noqa: BLE001
            # The type alone: messages of libraries quote what they stumble over.
            logger.error("%s could not be read: %s.", self._url, type(error).__name__)
        finally:
            with self._lock:
                if self._attempt is attempt:
                    self._failing = not done
                    self._late = self._now().since(attempt.began) >= LATE
            attempt.finished.set_result(None)
