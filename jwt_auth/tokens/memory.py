"""Tokens that were found genuine lately: what has been checked once need not be checked again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from jwt_auth.errors import TokenExpired, TokenNotValid
from jwt_auth.tokens.claims import SignedClaims, VerifiedClaims
from jwt_auth.tokens.keys import Key

# What is longer is verified each time: tokens are some hundred bytes, and the memory has a
# size that can be told.
LONGEST = 2048

Issuer = TypeVar("Issuer")

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(slots=True, eq=False, repr=False)
class Genuine(Generic[Issuer]):
    """A token of which everything holds that does not change with time.

    Form, header, signature, and every rule about its claims but those on time. It is good from
    *begins* on and before *ends* (POSIX seconds), if its session lasts. *issuer* is `None` for
    a token of our own. Of another's, *key* is what has signed it, and *header* what the key is
    found by: it holds for as long as that key is in force. Whoever takes it out of the memory
    marks it as *used*.
    """

    claims: SignedClaims
    begins: float
    ends: float
    issuer: Issuer | None = None
    key: Key | None = None
    # By a function: before Python 3.12 a mapping proxy has no hash, and no dataclass takes it.
    header: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    used: bool = False

    def at(self, now: float) -> VerifiedClaims:
        """Return the claims if they hold *now* (POSIX seconds).

        The expiry is looked at last, so that "expired" is only ever said of a token that is
        genuine in all else.

        Raises:
            TokenNotValid: ``nbf`` or ``iat`` is too far ahead.
            TokenExpired: ``exp`` has passed.
        """
        if now < self.begins:
            raise TokenNotValid("not valid yet")
        if now >= self.ends:
            raise TokenExpired("past its exp")
        return VerifiedClaims(self.claims)


class TokenMemory(Generic[Issuer]):
    """The tokens that were found genuine last, at most *size* of them.

    Nothing else comes in: who sends what is not genuine changes nothing here. They are known by
    a text that holds the whole token, so that one that differs in a letter is another. One
    memory is for one key ring.

    When it is full the oldest goes, unless it was used: then its turn comes once more ("second
    chance"). So a hit moves nothing. It takes no lock and is one operation of C; what another
    thread does meanwhile makes a token be verified again, or forgotten a little early.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._tokens: OrderedDict[str, Genuine[Issuer]] = OrderedDict()
        self._lock = threading.Lock()
        # Returns what was kept for a text. Of C: a method of ours would take longer by itself.
        self.get: Callable[[str], Genuine[Issuer] | None] = self._tokens.get

    def __len__(self) -> int:
        return len(self._tokens)

    def keep(self, text: str, genuine: Genuine[Issuer]) -> None:
        """Keep *genuine* for *text*, in the place of another one if there is no room."""
        if not self._size or len(text) > LONGEST:
            return
        with self._lock:
            # Another thread may have verified it as well.
            is_known = text in self._tokens
            while not is_known and len(self._tokens) >= self._size:
                oldest, one = self._tokens.popitem(last=False)
                if one.used:
                    one.used = False
                    self._tokens[oldest] = one
            self._tokens[text] = genuine
            genuine.used = is_known
