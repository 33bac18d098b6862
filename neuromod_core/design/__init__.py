"""Who gets what, when, and how nobody knows: Williams orders, balance audits, sealed allocations, the ledger.

This package knows arms as numbers or codes, never as packs.
"""

from neuromod_core.design.balance import BalanceAudit, BalanceRow, balance, balanced_levels
from neuromod_core.design.blinding import commit, key_commitment, new_code, new_codes, new_key, verify_commitment
from neuromod_core.design.ledger import Entry, append, dump, head, load, verify
from neuromod_core.design.williams import assign_sequences, crossover, sequence_numbers, williams

__all__ = [
    "BalanceAudit",
    "BalanceRow",
    "Entry",
    "append",
    "assign_sequences",
    "balance",
    "balanced_levels",
    "commit",
    "crossover",
    "dump",
    "head",
    "key_commitment",
    "load",
    "new_code",
    "new_codes",
    "new_key",
    "sequence_numbers",
    "verify",
    "verify_commitment",
    "williams",
]
