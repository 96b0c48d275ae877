"""What is remembered of tokens: how many, which, and that threads do not mix it up."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from jwt_auth.errors import TokenExpired, TokenNotValid
from jwt_auth.tokens.claims import Claims, SignedClaims
from jwt_auth.tokens.memory import LONGEST, Genuine, TokenMemory

THREADS = 8


def genuine(subject: str) -> Genuine[None]:
    return Genuine(SignedClaims(Claims({"sub": subject, "exp": 200, "iat": 100})), 100, 200)


def names(memory: TokenMemory[None]) -> str:
    return "".join(name for name in "abcdef" if memory.get(name) is not None)


def test_what_was_used_stays_when_others_go() -> None:
    memory: TokenMemory[None] = TokenMemory(3)
    kept = {name: genuine(name) for name in "abcdef"}
    for name in "abc":
        memory.keep(name, kept[name])
    kept["a"].used = True
    memory.keep("d", kept["d"])
    assert names(memory) == "acd"
    # Once: a use counts until its turn has come.
    memory.keep("e", kept["e"])
    assert names(memory) == "ade"
    memory.keep("f", kept["f"])
    assert names(memory) == "def"


def test_when_all_were_used_the_oldest_goes() -> None:
    memory: TokenMemory[None] = TokenMemory(3)
    for name in "abc":
        memory.keep(name, one := genuine(name))
        one.used = True
    memory.keep("d", genuine("d"))
    assert names(memory) == "bcd"


def test_what_is_kept_again_counts_as_used() -> None:
    memory: TokenMemory[None] = TokenMemory(2)
    for text in "aba":
        memory.keep(text, genuine(text))
    memory.keep("a", anew := genuine("a"))
    memory.keep("c", genuine("c"))
    assert memory.get("b") is None
    assert memory.get("a") is anew


def test_a_memory_of_nothing_keeps_nothing() -> None:
    memory: TokenMemory[None] = TokenMemory(0)
    memory.keep("a", genuine("a"))
    assert (memory.get("a"), len(memory)) == (None, 0)


def test_long_tokens_are_not_remembered() -> None:
    memory: TokenMemory[None] = TokenMemory(9)
    for length in (LONGEST, LONGEST + 1):
        memory.keep("a" * length, genuine("a"))
    assert memory.get("a" * LONGEST) is not None
    assert memory.get("a" * (LONGEST + 1)) is None


def test_a_letter_makes_another_token() -> None:
    memory: TokenMemory[None] = TokenMemory(9)
    memory.keep("abc", genuine("a"))
    for other in ("abd", "abcd", "ab", "ABC", " abc", "abc ", ""):
        assert memory.get(other) is None


@pytest.mark.parametrize(
    ("now", "refused"), [(99.9, TokenNotValid), (100, None), (199.9, None), (200, TokenExpired)]
)
def test_it_holds_from_its_beginning_and_before_its_end(
    now: float, refused: type[Exception] | None
) -> None:
    one = genuine("a")
    if refused is None:
        assert one.at(now) is one.claims
    else:
        with pytest.raises(refused):
            one.at(now)


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize("size", [1, 3, 64])
def test_threads_get_what_belongs_to_the_token(size: int) -> None:
    memory: TokenMemory[None] = TokenMemory(size)
    # More than are remembered: all the time one is forgotten while another is looked up.
    tokens = {f"token {number} {'x' * 300}": genuine(str(number)) for number in range(2 * size + 1)}

    def use(seed: int) -> tuple[int, int]:
        chance, hits, most = random.Random(seed), 0, 0  # noqa: S311
        names = list(tokens)
        for _ in range(4000):
            # Another string each time, as of each request.
            text = f"{chance.choice(names)} "[:-1]
            found = memory.get(text)
            if found is None:
                memory.keep(text, tokens[text])
            else:
                hits += 1
                found.used = True
                assert found is tokens[text]
            most = max(most, len(memory))
        return hits, most

    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(use, range(THREADS)))
    assert all(hits > 0 for hits, _ in results)
    assert max(most for _, most in results) <= size
    assert len(memory) == size
