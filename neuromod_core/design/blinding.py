"""Blinding: random codes that say nothing, and commitments that bind an allocation before the first cell runs.

Codes are drawn, never derived: an unsalted hash of a cell's content is inverted by enumerating the few possible
contents. Entropy comes in as a function such as `secrets.token_bytes`; this module reads no source of its own.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import TypeAlias

from neuromod_core.kernel.errors import DesignError, IntegrityError

Entropy: TypeAlias = Callable[[int], bytes]

CODE_BYTES = 16
KEY_BYTES = 32


def new_code(entropy: Entropy) -> str:
    """Return an opaque code: 128 random bits as 32 hex digits.

    Raises:
        DesignError: when `entropy` does not give the bytes it was asked for.

    >>> new_code(lambda count: bytes(range(count)))
    '000102030405060708090a0b0c0d0e0f'
    """
    return _drawn(entropy, CODE_BYTES).hex()


def new_codes(count: int, entropy: Entropy) -> tuple[str, ...]:
    """Return `count` different codes.

    Raises:
        DesignError: when a code repeats, which 128 random bits do not.

    >>> import secrets
    >>> len(set(new_codes(5, secrets.token_bytes)))
    5
    """
    codes = tuple(new_code(entropy) for _ in range(count))
    if len(set(codes)) < count:
        raise DesignError(f"{count} codes of {8 * CODE_BYTES} bits hold a repeat: the source of entropy is not random.")
    return codes


def new_key(entropy: Entropy) -> bytes:
    """Return a random key of 32 bytes: the nonce that hides a committed table until it is published.

    Raises:
        DesignError: when `entropy` does not give the bytes it was asked for.

    >>> import secrets
    >>> len(new_key(secrets.token_bytes))
    32
    """
    return _drawn(entropy, KEY_BYTES)


def commit(key: bytes, table: bytes) -> str:
    """Return the commitment to `table`:  HMAC-SHA256(key, table), as 64 hex digits.

    The key has exactly 32 bytes, because HMAC pads shorter keys with zeros and would let two keys open one commitment.
    Source: Krawczyk, Bellare & Canetti 1997 (RFC 2104).

    Raises:
        DesignError: for a key of another length.

    >>> commit(bytes(32), b"[]")[:8]
    '83ce13bd'
    """
    return hmac.new(_checked(key), table, hashlib.sha256).hexdigest()


def key_commitment(key: bytes) -> str:
    """Return the commitment to the key itself:  SHA-256(b"key" || key), as 64 hex digits.

    Raises:
        DesignError: for a key that is not of 32 bytes.

    >>> key_commitment(bytes(range(32)))[:8]
    '44967216'
    """
    return hashlib.sha256(b"key" + _checked(key)).hexdigest()


def verify_commitment(key: bytes, table: bytes, *, committed: str, committed_key: str) -> None:
    """Check a published key and table against what was committed before the first cell ran.

    Raises:
        DesignError: for a key that is not of 32 bytes.
        IntegrityError: when the key, or the table, is not the one committed to; it says which.

    >>> key, table = bytes(range(32)), b"[]"
    >>> verify_commitment(key, table, committed=commit(key, table), committed_key=key_commitment(key))
    """
    for what, given, expected in (
        ("key", key_commitment(key), committed_key),
        ("allocation table", commit(key, table), committed),
    ):
        if given != expected:
            raise IntegrityError(f"The {what} is not the one committed to: {expected} was committed, it gives {given}.")


def _drawn(entropy: Entropy, count: int) -> bytes:
    """Return `count` bytes of entropy, or raise."""
    token = entropy(count)
    if len(token) != count:
        raise DesignError(f"The source of entropy gave {len(token)} bytes; {count} were asked for.")
    return token


def _checked(key: bytes) -> bytes:
    """Return `key` when it has the length that makes a commitment binding."""
    if len(key) != KEY_BYTES:
        raise DesignError(f"A commitment key has exactly {KEY_BYTES} bytes; {len(key)} were given.")
    return key
