from __future__ import annotations

import secrets

import pytest

from neuromod_core.design import commit, key_commitment, new_code, new_codes, new_key, verify_commitment
from neuromod_core.kernel.errors import DesignError, IntegrityError
from neuromod_core.kernel.types import canonical

KEY = bytes(range(32))
TABLE = canonical(
    [
        {"cell": "c1", "code": "a1", "pack": "P0", "period": 1, "unit": "u01"},
        {"cell": "c2", "code": "b7", "pack": "LSD", "period": 2, "unit": "u01"},
    ]
)
COMMITTED = "bfbab29151a71fcb399ba3fc45f5c7aec84a646842cdcc7a74f784fdcf09e41b"
COMMITTED_KEY = "449672167919d72a502771e4324e1f4d9a1142d7cc2f4cb46b8ad7e15c3eda40"


def test_commitments_agree_with_an_independent_computation() -> None:
    assert commit(KEY, TABLE) == COMMITTED
    assert key_commitment(KEY) == COMMITTED_KEY
    verify_commitment(KEY, TABLE, committed=COMMITTED, committed_key=COMMITTED_KEY)


def test_a_changed_table_is_named() -> None:
    with pytest.raises(IntegrityError, match=r"^The allocation table is not the one committed to: bfbab2"):
        verify_commitment(KEY, TABLE.replace(b"LSD", b"P0"), committed=COMMITTED, committed_key=COMMITTED_KEY)


def test_a_changed_key_is_named() -> None:
    other = bytes(31) + b"\x01"
    with pytest.raises(IntegrityError, match=r"^The key is not the one committed to: 449672"):
        verify_commitment(other, TABLE, committed=commit(other, TABLE), committed_key=COMMITTED_KEY)


@pytest.mark.parametrize("key", [b"", KEY[:31], KEY + b"\x00"])
def test_only_a_key_of_32_bytes_commits(key: bytes) -> None:
    message = f"A commitment key has exactly 32 bytes; {len(key)} were given."
    with pytest.raises(DesignError, match=message):
        commit(key, TABLE)
    with pytest.raises(DesignError, match=message):
        key_commitment(key)


def test_codes_are_128_random_bits_and_all_different() -> None:
    codes = new_codes(500, secrets.token_bytes)
    assert len(set(codes)) == 500
    assert {len(code) for code in codes} == {32}
    assert len({code[:2] for code in codes}) > 100


def test_a_source_of_entropy_that_repeats_or_falls_short_is_refused() -> None:
    with pytest.raises(DesignError, match="2 codes of 128 bits hold a repeat"):
        new_codes(2, bytes)
    with pytest.raises(DesignError, match="gave 15 bytes; 16 were asked for"):
        new_code(lambda count: bytes(count - 1))
    with pytest.raises(DesignError, match="gave 31 bytes; 32 were asked for"):
        new_key(lambda count: bytes(count - 1))
