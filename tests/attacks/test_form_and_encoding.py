"""Rows 37 to 51: three segments, canonical base64url, strict JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from jwt_auth import averify, verify
from jwt_auth.errors import TokenNotValid
from tests.attacks.conftest import Target
from tests.attacks.corpus import BAD_MEMBERS, CRIT, NO_OBJECT, spliced
from tests.attacks.forge import b64, to_json

# Our own tokens, and another issuer's.
pytestmark = pytest.mark.parametrize("target", ["HS256", "ES256 foreign"], indirect=True)


def test_three_segments_none_of_them_empty(target: Target) -> None:
    header, payload, signature = target.forge.token(target.claims).split(".")
    for parts in (
        [header],
        [header, payload],
        [header, payload, ""],
        ["", payload, signature],
        [header, "", signature],
        [header, payload, signature, ""],
        [header, payload, signature, signature],
        ["", header, payload, signature],
        [header, payload, signature, header, payload],
        ["", "", ""],
    ):
        target.refuses_header(f"Bearer {'.'.join(parts)}", "token_not_valid", "invalid_request")


def test_json_serializations_are_no_tokens(target: Target) -> None:
    protected, payload, signature = target.forge.token(target.claims).split(".")
    flat = {"protected": protected, "payload": payload, "signature": signature}
    general = {"payload": payload, "signatures": [flat]}
    unprotected = {**flat, "header": target.forge.header()}
    # A compact token for one parser and an object for another.
    polyglot = {f"{protected}.{payload}.{signature}": "", **flat}
    for one in (flat, general, unprotected, polyglot):
        target.refuses_header(f"Bearer {json.dumps(one)}", "invalid_request")
        target.refuses(b64(to_json(one)))


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("junk", ["=", "==", "+", "/", "~", "."])
def test_only_the_alphabet_of_base64url(target: Target, position: int, junk: str) -> None:
    parts = target.forge.token(target.claims).split(".")
    for changed in (parts[position] + junk, parts[position][:4] + junk + parts[position][4:]):
        spelled = [*parts[:position], changed, *parts[position + 1 :]]
        target.refuses_header(f"Bearer {'.'.join(spelled)}", "token_not_valid", "invalid_request")


@pytest.mark.parametrize("position", [0, 1])
def test_padding_is_refused_though_it_is_signed(target: Target, position: int) -> None:
    parts = [b64(to_json(target.forge.header())), b64(to_json(target.claims))]
    parts[position] += "=" * (-len(parts[position]) % 4 or 4)
    target.refuses_header(
        f"Bearer {target.forge.sealed('.'.join(parts))}", "token_not_valid", "invalid_request"
    )


def test_every_value_has_one_spelling(target: Target) -> None:
    # 32 bytes leave two spare bits in the last character of an HS256 signature.
    token = target.forge.token(target.claims)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    place = alphabet.index(token[-1])
    for other in range(place + 1, place + 4):
        target.refuses(token[:-1] + alphabet[other])
    target.refuses(token + "A")


SPACES = ["\n", "\r\n", " ", "\t", "\x0b", "\x85", "\xa0", "\u200b", "\ufeff"]
OTHERS = ["\x00", "\ud800", "é"]


@pytest.mark.parametrize("character", SPACES + OTHERS, ids=ascii)
def test_nothing_is_stripped(target: Target, character: str) -> None:
    # As sockets and tasks hand a token over: no header, which could not hold some of these.
    good = target.forge.token(target.claims)
    header, payload, signature = good.split(".")
    verify(good)
    for raw in (
        character + good,
        good + character,
        f"{header}{character}.{payload}.{signature}",
        f"{header}.{character}{payload}.{signature}",
        f"{header}.{payload}.{signature[:4]}{character}{signature[4:]}",
    ):
        with pytest.raises(TokenNotValid):
            verify(raw)
        with pytest.raises(TokenNotValid):
            async_to_sync(averify)(raw)


@pytest.mark.parametrize("value", NO_OBJECT, ids=repr)
def test_header_and_payload_are_one_object_each(target: Target, value: bytes) -> None:
    target.refuses_header(
        f"Bearer {target.forge.token(value)}", "token_not_valid", "invalid_request"
    )
    target.refuses_header(
        f"Bearer {target.forge.token(target.claims, value)}", "token_not_valid", "invalid_request"
    )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7"])
def test_utf_8_alone(target: Target, encoding: str) -> None:
    payload = json.dumps({**target.claims, "x": "é+"}, ensure_ascii=False).encode(encoding)
    header = json.dumps({**target.forge.header(), "x": "é+"}, ensure_ascii=False).encode(encoding)
    if encoding == "utf-7":
        payload = header = payload.replace(b'"', b"+ACI-")
    target.refuses(target.forge.token(payload))
    target.refuses(target.forge.token(target.claims, header))


@pytest.mark.parametrize("text", BAD_MEMBERS.values(), ids=BAD_MEMBERS)
def test_strict_json_in_header_and_payload(target: Target, text: str) -> None:
    target.refuses(target.forge.token(spliced(target.claims, text)))
    target.refuses(target.forge.token(target.claims, spliced(target.forge.header(), text)))


@pytest.mark.parametrize("crit", CRIT, ids=repr)
def test_no_extension_is_understood(target: Target, crit: Any) -> None:
    target.refuses(target.forge.token(target.claims, target.forge.header(crit=crit)))


@pytest.mark.parametrize("b64_member", [True, False, None, "false", 0])
def test_no_unencoded_payload(target: Target, b64_member: Any) -> None:
    header = target.forge.header(b64=b64_member)
    target.refuses(target.forge.token(target.claims, header))
    target.refuses(target.forge.token(target.claims, {**header, "crit": ["b64"]}))


@pytest.mark.parametrize("cty", ["JWT", "jwt", "application/jwt"])
def test_no_nested_token(target: Target, cty: str) -> None:
    inner = target.forge.token(target.claims)
    target.refuses(target.forge.token(target.claims, target.forge.header(cty=cty)))
    target.refuses(target.forge.token(inner.encode(), target.forge.header(cty=cty)))


VARIETY: dict[str, dict[str, Any]] = {
    "float times": {"exp": lambda claims: claims["exp"] + 0.5},
    "unknown claims": {"x": lambda claims: {"a": [1, None, {"b": False}]}},
    "not ASCII": {"x": lambda claims: "é☃𝄞"},
    "depth 16": {"x": lambda claims: json.loads("[" * 15 + "]" * 15)},
    "brackets in a string": {"x": lambda claims: "[{" * 40},
    "two kilobytes": {"x": lambda claims: "x" * 2000},
    "a large number": {"x": lambda claims: 10**300},
}


@pytest.mark.parametrize("changes", VARIETY.values(), ids=VARIETY)
def test_honest_variety_passes(target: Target, changes: dict[str, Any]) -> None:
    made = {name: make(target.claims) for name, make in changes.items()}
    target.accepts(target.forge.token(target.having(**made)))


def test_white_space_and_unknown_members_pass(target: Target) -> None:
    payload = json.dumps(target.claims, indent="\t").encode() + b"\r\n "
    target.accepts(target.forge.token(payload))
    header = json.dumps(target.forge.header(x={"y": 1}), indent=2).encode()
    target.accepts(target.forge.token(target.claims, header))
    escaped = spliced(target.claims, '"x":"\\ud834\\udd1e"')
    target.accepts(target.forge.token(escaped))
