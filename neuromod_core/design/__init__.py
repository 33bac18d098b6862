"""Who gets what, when, and how nobody knows: Williams orders, balance audits, sealed allocations, the ledger.

This package knows arms as numbers or codes, never as packs.
"""

from neuromod_core.design.balance import BalanceAudit, BalanceRow, balance, balanced_levels, dealt_in_runs
from neuromod_core.design.blinding import commit, key_commitment, new_code, new_codes, new_key, verify_commitment
from neuromod_core.design.carryover import CarryOver, carry_over
from neuromod_core.design.ledger import Entry, append, dump, head, load, verify
from neuromod_core.design.williams import (
    Order,
    assign_sequences,
    crossover,
    cyclic,
    sequence_numbers,
    sequences,
    sets,
    square,
)
from neuromod_core.kernel.squares import williams

__all__ = [
    "BalanceAudit",
    "BalanceRow",
    "CarryOver",
    "Entry",
    "Order",
    "append",
    "assign_sequences",
    "balance",
    "balanced_levels",
    "carry_over",
    "commit",
    "crossover",
    "cyclic",
    "dealt_in_runs",
    "dump",
    "head",
    "key_commitment",
    "load",
    "new_code",
    "new_codes",
    "new_key",
    "sequence_numbers",
    "sequences",
    "sets",
    "square",
    "verify",
    "verify_commitment",
    "williams",
]
