"""Another issuer: its keys and its ended sessions, followed by URL, and its tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from jwt_auth.errors import TokenNotValid, Unavailable
from jwt_auth.tokens import jws, revoked
from jwt_auth.tokens.claims import MAX_ID_LENGTH, SignedClaims, VerifiedClaims, read_object
from jwt_auth.tokens.fetching import Attempt, Followed, Rhythm
from jwt_auth.tokens.keys import Key, KeySet, load_key
from jwt_auth.tokens.memory import Genuine
from jwt_auth.tokens.policy import Policy
from jwt_auth.tokens.revoked import RevokedList

# Providers publish a key some minutes before they sign with it.
KEYS_RHYTHM = Rhythm(renew_after=300, lifetime=900, cool_down=30)
# Through an outage keys serve for so long; then nobody can tell any more.
KEYS_SERVE = 24 * 3600
# How long after a fetch began a request still waits for it, where other keys are known. A token
# may name a key that does not exist, and its signature is not checked yet.
KEYS_PATIENCE = 1.0
MOST_KEYS = 100
# Small enough that even a set of nothing but brackets takes less than 10 MB to read.
LONGEST_SET = 256 * 1024
# From a logout at the issuer to the refusal here: a second until its list has it, one
# more in caches, and this.
LIST_RHYTHM = Rhythm(renew_after=5, lifetime=7, cool_down=5)
# Twice in base64: digests in the payload, and the payload in the token.
LONGEST_LIST = 512 * 1024

_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class RemoteKeys:
    """The keys that another issuer publishes (RFC 7517 section 5).

    A request with a known ``kid`` does not wait for the provider, unless nobody has asked
    for the keys for `KEYS_RHYTHM.lifetime` seconds. As soon as there are keys, a request waits
    no longer than `KEYS_PATIENCE`, whatever its ``kid``.
    """

    def __init__(self, url: str, algorithms: Sequence[str], clock: Callable[[], float]) -> None:
        self.followed: Followed[KeySet] = Followed(
            url,
            max_size=LONGEST_SET,
            read=lambda data: read_jwks(data, algorithms),
            join=_with_old_objects,
            rhythm=KEYS_RHYTHM,
            clock=clock,
        )

    def renewal(self, header: Mapping[str, Any]) -> Attempt | None:
        """Begin what has to be fetched for a token with this *header*; see Followed."""
        keys = self._known()
        missing = keys is None or ("kid" in header and keys.get(header["kid"]) is None)
        return self.followed.renewal(missing=missing)

    def wait(self, header: Mapping[str, Any]) -> None:
        """Have fetched what a token with this *header* needs, and wait for it within bounds."""
        self.followed.wait(self.renewal(header), self._patience())

    async def await_(self, header: Mapping[str, Any]) -> None:
        """See wait()."""
        await self.followed.await_(self.renewal(header), self._patience())

    def find(self, header: Mapping[str, Any]) -> Key:
        """Return the one key that may verify a token with this *header*.

        Raises:
            TokenNotValid: the issuer has no such key.
            Unavailable: nobody can tell, because the keys could not be fetched.
        """
        keys = self._known()
        if keys is None:
            raise Unavailable
        if "kid" in header and keys.get(header["kid"]) is None and self.followed.in_doubt:
            raise Unavailable
        return keys.find(header)

    def _patience(self) -> float:
        return math.inf if self._known() is None else KEYS_PATIENCE

    def _known(self) -> KeySet | None:
        followed = self.followed
        return followed.value if followed.age <= KEYS_SERVE else None


def read_jwks(data: bytes, algorithms: Sequence[str]) -> KeySet:
    """Return the keys in the JWK Set *data* that may verify signatures by *algorithms*.

    Every other member is left out, and one bad key does not cost the good ones. A key
    without ``alg`` gets the first of *algorithms* that its kind can serve.

    Raises:
        TokenNotValid: *data* is no JWK Set.
    """
    members = read_object(data).get("keys")
    if not isinstance(members, list) or len(members) > MOST_KEYS:
        raise TokenNotValid("no JWK Set, or one with too many keys")
    found: dict[str, Key] = {}
    twice: set[str] = set()
    for jwk in members:
        key = _load(jwk, algorithms)
        if key is None:
            continue
        # RFC 7517 section 4.5: one `kid` for several keys leaves a choice to chance.
        if key.kid in found:
            twice.add(key.kid)
        found[key.kid] = key
    return KeySet(key for kid, key in found.items() if kid not in twice)


def _load(jwk: Any, algorithms: Sequence[str]) -> Key | None:
    # A secret that everybody can read, or the private half of a key: neither proves who
    # has signed.
    if not isinstance(jwk, dict) or not _PRIVATE_MEMBERS.isdisjoint(jwk):
        return None
    kid = jwk.get("kid")
    if kid is not None and not is_kid(kid):
        return None
    # RFC 7517 section 4.3: a public key is there to verify; with "sign" alone it is misnamed.
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    # Providers' names are longer than ours may be; what is looked up is any text.
    nameless = {name: value for name, value in jwk.items() if name != "kid"}
    for algorithm in algorithms:
        try:
            key = load_key(nameless, algorithm, private=False)
        except Exception:  # noqa: BLE001, S112
            # Weak, for another use, or nonsense: as if it were not there.
            continue
        if key.algorithm == algorithm:
            return key if kid is None else replace(key, kid=kid)
    return None


def is_kid(value: Any) -> bool:
    """Tell whether *value* can be the name of a published key."""
    return isinstance(value, str) and 0 < len(value) <= MAX_ID_LENGTH


def _with_old_objects(keys: KeySet, before: KeySet | None) -> KeySet:
    """Return *keys*, of which those that *before* has too are the same objects."""

    def same(key: Key) -> Key:
        old = None if before is None else before.get(key.kid)
        if old is None or (old.identity, old.algorithm) != (key.identity, key.algorithm):
            return key
        return old

    return KeySet(map(same, keys))


class RemoteRevocations:
    """The sessions that another issuer says to have ended."""

    def __init__(
        self,
        url: str,
        issuer: str,
        keys: RemoteKeys,
        clock: Callable[[], float],
        leeway: float,
    ) -> None:
        self._issuer = issuer
        self._keys = keys
        self._clock = clock
        self._leeway = leeway
        self.followed: Followed[RevokedList] = Followed(
            url,
            max_size=LONGEST_LIST,
            read=self._read,
            join=lambda read, before: read.and_before(before, clock()),
            rhythm=LIST_RHYTHM,
            clock=clock,
        )

    def renewal(self) -> Attempt | None:
        """Begin a fetch if it is time; see Followed."""
        known = self.followed.value
        missing = known is None or self._clock() >= known.expires
        return self.followed.renewal(missing=missing)

    def check(self, claims: VerifiedClaims) -> None:
        """Refuse claims whose session was ended.

        Raises:
            SessionEnded, TokenExpired, Unavailable: see RevokedList.check().
            Unavailable: there was no list yet.
        """
        known = self.followed.value
        if known is None:
            raise Unavailable
        known.check(claims, self._clock())

    def _read(self, data: bytes) -> RevokedList:
        token = jws.Unverified(data.decode("ascii", "replace").strip(), longest=LONGEST_LIST)
        jws.check_header(token.header, revoked.TYPES)
        self._keys.followed.wait(self._keys.renewal(token.header))
        try:
            members = token.verify(self._keys.find(token.header))
        except Unavailable:
            raise TokenNotValid("its key could not be fetched") from None
        now = self._clock()
        return revoked.read_list(members, self._issuer, now, self._leeway)


class RemoteIssuer:
    """Verifies the access tokens of one other issuer.

    `policy` holds its name: a key of one issuer never vouches for another. A token is
    looked at for form, type and algorithm before anything is fetched for it.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        types: frozenset[str],
        algorithms: Sequence[str],
        keys: RemoteKeys,
        revocations: RemoteRevocations | None,
        clock: Callable[[], float],
    ) -> None:
        self.policy = policy
        self._types = types
        self._algorithms = tuple(algorithms)
        self._keys = keys
        self._revocations = revocations
        self._clock = clock

    def key(self, header: Mapping[str, Any]) -> Key:
        """Return the one key in force that may verify a token with this *header*.

        Raises:
            TokenNotValid: the issuer has no such key.
            Unavailable: the keys could not be fetched.
        """
        self._keys.wait(header)
        return self._keys.find(header)

    async def akey(self, header: Mapping[str, Any]) -> Key:
        """See key()."""
        await self._keys.await_(header)
        return self._keys.find(header)

    def unsafe_read(self, token: jws.Unverified, key: Key) -> SignedClaims:
        """Check the signature of *token*, and every rule about its claims but those on time.

        Raises:
            TokenNotValid: it was not signed by *key*, or is not meant for us.
        """
        claims = jws.claims_of(token, key)
        self.policy.check_content(claims)
        return claims

    def check(self, genuine: Genuine[Any]) -> VerifiedClaims:
        """Check what changes with time: whether *genuine* holds now, and its session lasts.

        Raises:
            TokenNotValid, TokenExpired, SessionEnded: it does not.
            Unavailable: the issuer's list could not be fetched.
        """
        verified = genuine.at(self._clock())
        if self._revocations is not None:
            self._revocations.followed.wait(self._revocations.renewal())
            self._revocations.check(verified)
        return verified

    async def acheck(self, genuine: Genuine[Any]) -> VerifiedClaims:
        """See check()."""
        verified = genuine.at(self._clock())
        if self._revocations is not None:
            await self._revocations.followed.await_(self._revocations.renewal())
            self._revocations.check(verified)
        return verified

    def look_at(self, header: Mapping[str, Any]) -> None:
        """Refuse by *header* alone what nothing has to be fetched for.

        Raises:
            TokenNotValid: another type, an algorithm that is not this issuer's, or nonsense.
        """
        jws.check_header(header, self._types)
        if header.get("alg") not in self._algorithms:
            raise TokenNotValid("an alg that is not this issuer's")
        if "kid" in header and not is_kid(header["kid"]):
            raise TokenNotValid("kid is no name")
