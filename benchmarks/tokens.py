"""``authenticate()`` alone: of a token that was seen before, and of one that was not.

Each call has a request of its own, made before the clock starts; the class is called by hand, and
once as by DRF, for a view. "Cold" is the first time that a process sees a token. `jwt.decode` gets
a key that is ready, and the same demands: algorithm, audience, issuer, and the claims that have to
be there. For encrypted tokens it is called with what `joserfc` has decrypted. Nobody else here
takes those.
"""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from benchmarks import project
from benchmarks.figures import OURS, SIMPLEJWT, STATELESS, Figure, is_quick, say, side_by_side

WARM, COLD = "authenticate(), warm", "authenticate(), cold"
DECODE, SIGNATURE = "jwt.decode", "signature alone"
ISSUER, AUDIENCE = "https://id.example", "api"
DEMANDED = ["iss", "aud", "sub", "iat", "exp", "jti", "sid"]
SECRET = "benchmarks-only-fedcba9876543210-zyxwvutsrqponmlkjihgfedcba-54321"
CONTENT_KEY = "benchmarks-only-a-key-that-encrypts-0123456789-abcdefghijklmnop"
ALGORITHMS = ["HS256", "RS256", "ES256", "EdDSA", "JWE"]
IN_A_VIEW = "HS256, in a DRF view"
# So many requests are made at a time: as in a server, they are still in the processor's cache.
BATCH = 40

Authenticate = Callable[[Any], Any]


def private_key(algorithm: str) -> Any:
    """Return a new private key for *algorithm* of the cryptography package."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    return {
        "RS256": lambda: rsa.generate_private_key(65537, 2048),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }[algorithm]()


def pem(key: Any) -> str:
    """Return *key* as settings take it."""
    from cryptography.hazmat.primitives import serialization

    form, nothing = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, nothing).decode()


def public_pem(key: Any) -> str:
    """Return the public half of *key* as settings take it."""
    from cryptography.hazmat.primitives import serialization

    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


class Project:
    """Ours and simplejwt with one key for *algorithm*, and tokens of both."""

    def __init__(self, algorithm: str, cache_size: int = 4096) -> None:
        self.algorithm = "HS256" if algorithm == "JWE" else algorithm
        self.encrypts = algorithm == "JWE"
        key = SECRET if self.algorithm == "HS256" else private_key(algorithm)
        self.verifying = SECRET if isinstance(key, str) else key.public_key()
        ours = {
            "ISSUER": ISSUER,
            "AUDIENCE": AUDIENCE,
            "ROLES": None,
            "SIGNING_KEY": key if isinstance(key, str) else pem(key),
            "TOKEN_CACHE_SIZE": cache_size,
        }
        if self.encrypts:
            ours["ENCRYPTION_KEY"] = CONTENT_KEY
        self.settings = {"JWT_AUTH": ours}
        # What the settings of simplejwt are made into, once, when it is imported.
        self.backend = (
            self.algorithm,
            key if isinstance(key, str) else pem(key),
            "" if isinstance(key, str) else public_pem(key),
            AUDIENCE,
            ISSUER,
        )

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Have the settings of this project for the block."""
        from unittest.mock import patch

        from django.test import override_settings
        from rest_framework_simplejwt.backends import TokenBackend
        from rest_framework_simplejwt.tokens import Token

        backend = patch.object(Token, "_token_backend", TokenBackend(*self.backend))
        with override_settings(**self.settings), backend:
            yield

    def ours(self, number: int) -> list[str]:
        """Return *number* access tokens of ours, each of a session of its own."""
        from datetime import UTC, datetime, timedelta
        from uuid import uuid4

        from jwt_auth.runtime import current
        from jwt_auth.tokens.access import SessionFacts

        now, subject = datetime.now(UTC), str(project.user().pk)
        issue, end = current().access_tokens.issue, now + timedelta(days=90)
        return [
            issue(
                subject,
                now=now,
                session=SessionFacts(uuid4(), now, ["pwd"], end),
                roles=None,
                extra={},
            ).raw
            for _ in range(number)
        ]

    def simplejwts(self, number: int) -> list[str]:
        """Return *number* access tokens of simplejwt's."""
        from rest_framework_simplejwt.tokens import AccessToken

        user = project.user()
        return [str(AccessToken.for_user(user)) for _ in range(number)]

    def signed(self, raw: str) -> str:
        """Return what is signed of a token of ours."""
        from jwt_auth.runtime import current

        encryption = current().access_tokens.encryption
        return raw if encryption is None else encryption.open(raw)

    def decode(self) -> Authenticate:
        """Return a bare `jwt.decode`, or that of what `joserfc` has decrypted."""
        import jwt

        key, algorithms, options = self.verifying, [self.algorithm], {"require": DEMANDED}

        def decoded(raw: str) -> Any:
            return jwt.decode(
                raw, key, algorithms=algorithms, audience=AUDIENCE, issuer=ISSUER, options=options
            )

        if not self.encrypts:
            return decoded

        from joserfc import jwe

        from jwt_auth.runtime import current

        encryption: Any = current().access_tokens.encryption
        material, pinned = encryption.encrypting.material, ["dir", "A256GCM"]

        def opened(raw: str) -> Any:
            plaintext = jwe.decrypt_compact(raw, material, algorithms=pinned).plaintext
            return decoded(plaintext.decode())

        return opened

    def check_signature(self) -> Authenticate:
        """Return the computation of the signature, and nothing else."""
        import jwt

        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        key = algorithm.prepare_key(self.verifying)

        def checked(parts: tuple[bytes, bytes]) -> Any:
            return algorithm.verify(parts[0], key, parts[1])

        return checked


def parts(raw: str) -> tuple[bytes, bytes]:
    """Return what is signed, and the signature."""
    from jwt.utils import base64url_decode

    signed, _, signature = raw.rpartition(".")
    return signed.encode(), base64url_decode(signature)


def drf_request(token: str) -> Any:
    """Return a request of DRF's, as whoever calls an authentication class by hand makes it."""
    from django.http import HttpRequest
    from rest_framework.request import Request

    request = HttpRequest()
    request.method = "GET"
    request.META["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return Request(request)


def request_in_a_view(token: str) -> Any:
    """Return a request as DRF hands it to an authentication class, with the view it is for."""
    from rest_framework.views import APIView

    request, view = drf_request(token), APIView()
    view.headers = view.default_response_headers
    request.parser_context["view"] = view
    return request


def calls(
    work: Authenticate,
    tokens: Sequence[str],
    make: Callable[[str], Any],
    begin: Callable[[], object] = lambda: None,
    project_of: Project | None = None,
) -> Callable[[int], float]:
    """Return what does *work* on so many of *tokens*, each of which *make* has made ready."""

    def run(number: int) -> float:
        taken, left = 0.0, iter(tokens * (number // len(tokens) + 1))
        begin()
        for first in range(0, number, BATCH):
            batch = [make(token) for token in islice(left, min(BATCH, number - first))]
            began = time.perf_counter()
            for one in batch:
                work(one)
            taken += time.perf_counter() - began
        return taken

    def in_project(number: int) -> float:
        assert project_of is not None
        with project_of.in_force():
            return run(number)

    return run if project_of is None else in_project


def forget(one: Project) -> Callable[[], None]:
    """Return what makes the process forget all tokens, and be ready to see new ones."""

    def forgotten() -> None:
        from jwt_auth import runtime, verify

        runtime.forget()
        # The parts are wired, and the list of ended sessions is read.
        verify(one.ours(1)[0])

    return forgotten


def authenticate(algorithm: str, quick: bool) -> None:
    """Measure all that verify tokens signed by *algorithm*."""
    from rest_framework_simplejwt.authentication import (
        JWTAuthentication as SimpleJWT,
    )
    from rest_framework_simplejwt.authentication import (
        JWTStatelessUserAuthentication as SimpleJWTStateless,
    )

    from jwt_auth.authentication import JWTAuthentication

    number, rounds = (BATCH, 2) if quick else (600, 25)
    one = Project(algorithm)
    with one.in_force():
        ours, theirs = one.ours(number), one.simplejwts(number)
        ready = forget(one)
        ready()
        signed = [parts(one.signed(raw)) for raw in ours]
        work = JWTAuthentication().authenticate
        runs = {
            (COLD, algorithm, OURS): calls(work, ours, drf_request, ready, one),
            (COLD, algorithm, DECODE): calls(one.decode(), ours, str),
            (COLD, algorithm, SIGNATURE): calls(one.check_signature(), signed, tuple),
        }
        cases = {algorithm: drf_request}
        if algorithm == "HS256":
            cases[IN_A_VIEW] = request_in_a_view
        for case, make in cases.items():
            runs[WARM, case, OURS] = calls(
                work, ours[:100], make, lambda: [work(drf_request(o)) for o in ours], one
            )
            if not one.encrypts:
                for name, kind in ((STATELESS, SimpleJWTStateless), (SIMPLEJWT, SimpleJWT)):
                    runs[WARM, case, name] = calls(
                        kind().authenticate, theirs, make, project_of=one
                    )
        found = side_by_side(runs, number=number, rounds=rounds)
    for (table, case, contender), seconds in found.items():
        Figure(table, case, contender, seconds * 1e6, "µs").tell()
    # They remember nothing: there is no other way for them to see a token.
    for table, contender in ((COLD, STATELESS), (COLD, SIMPLEJWT), (WARM, DECODE)):
        twin = found.get((WARM if table == COLD else COLD, algorithm, contender))
        if twin is not None:
            Figure(table, algorithm, contender, twin * 1e6, "µs").tell()


def statements() -> None:
    """Count what is asked of the database, by the class that knows the token and the others."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext
    from rest_framework_simplejwt.authentication import JWTAuthentication as SimpleJWT

    from jwt_auth.authentication import JWTAuthentication

    one = Project("HS256")
    with one.in_force():
        for name, kind, token in (
            (OURS, JWTAuthentication, one.ours(1)[0]),
            (SIMPLEJWT, SimpleJWT, one.simplejwts(1)[0]),
        ):
            kind().authenticate(drf_request(token))
            with CaptureQueriesContext(connection) as captured:
                kind().authenticate(drf_request(token))
            Figure(WARM, "statements", name, len(captured), "").tell()


def zipf(quick: bool) -> None:
    """Measure requests as they come: few users often, many seldom."""
    from rest_framework_simplejwt.authentication import JWTStatelessUserAuthentication

    from jwt_auth.authentication import JWTAuthentication
    from jwt_auth.runtime import current

    many, drawn = (500, 500) if quick else (100_000, 40_000)
    chance = random.Random(9)  # noqa: S311
    table = f"Zipf: {many:,} tokens, drawn in proportion to 1/rank"
    weights = [1 / rank for rank in range(1, many + 1)]
    runs: dict[str, Callable[[int], float]] = {}
    shares = {}
    for name, size in ((OURS, 4096), (f"{OURS}, TOKEN_CACHE_SIZE 0", 0)):
        one = Project("HS256", cache_size=size)
        with one.in_force():
            tokens = one.ours(many)
            draws = chance.choices(tokens, weights, k=drawn)
            work = JWTAuthentication().authenticate
            # Filled as it is when a server has run for a while.
            for raw in chance.choices(tokens, weights, k=drawn):
                work(drf_request(raw))
            memory = current().authenticator.memory
            shares[name] = sum(f"Bearer {raw}" in memory._tokens for raw in draws) / drawn
        runs[name] = calls(work, draws, drf_request, remind(work, list(memory._tokens)), one)
    one = Project("HS256")
    with one.in_force():
        theirs = one.simplejwts(many if quick else 20_000)
    draws = chance.choices(theirs, weights[: len(theirs)], k=drawn)
    work = JWTStatelessUserAuthentication().authenticate
    runs[STATELESS] = calls(work, draws, drf_request, project_of=one)
    found = side_by_side(runs, number=drawn, rounds=2 if quick else 3)
    for name, seconds in found.items():
        Figure(table, "authenticate()", name, seconds * 1e6, "µs").tell()
    Figure(table, "share that is remembered", OURS, shares[OURS] * 100, "%").tell()


def remind(work: Authenticate, headers: list[str]) -> Callable[[], None]:
    """Return what shows *headers*: a process whose settings were overridden knows none."""

    def reminded() -> None:
        for header in headers:
            work(drf_request(header.removeprefix("Bearer ")))

    return reminded


def weigh(quick: bool) -> None:
    """Measure what remembered tokens take in memory."""
    from jwt_auth import verify

    number = 500 if quick else 10_000
    one = Project("HS256", cache_size=number)
    with one.in_force():
        tokens = one.ours(number)
        forget(one)()
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for raw in tokens:
            # Another string, as of each request.
            verify(f"{raw} "[:-1])
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
    Figure("Memory", "10,000 remembered tokens", OURS, taken / number * 10_000 / 1e6, "MB").tell()


def main() -> None:
    quick = is_quick()
    project.begin()
    for algorithm in ALGORITHMS:
        say(f"authenticate(), {algorithm}")
        authenticate(algorithm, quick)
    statements()
    say("a Zipf workload")
    zipf(quick)
    say("memory")
    weigh(quick)
    project.end()


if __name__ == "__main__":
    main()
