"""`plan.yaml`: the public plan for people to read. The same hash is computed from it as from the canonical JSON.

plan hash = SHA-256(canonical JSON of what the YAML says),  canonical: sorted keys, no spaces, UTF-8
"""

from __future__ import annotations

import json

import yaml

from neuromod_core.kernel.errors import IntegrityError
from neuromod_core.kernel.types import canonical, digest
from neuromod_core.trial.plan import PublicPlan, as_json, parse_plan

WIDTH = 110
HEAD = """\
# The plan of a study, frozen before its first cell. Packs appear as handles: HMAC-SHA256(key, pack fingerprint).
# plan hash {hash}
# = SHA-256 of this file's content as canonical JSON (sorted keys, no spaces, UTF-8); comments do not count.
"""


def plan_yaml(plan: PublicPlan) -> str:
    """Return the plan as YAML, with its hash in a comment.

    Raises:
        TypeError: for a plan without a canonical form.
    """
    body = yaml.dump(
        json.loads(canonical(as_json(plan))),
        Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper),
        default_flow_style=None,
        sort_keys=True,
        allow_unicode=True,
        width=WIDTH,
    )
    return HEAD.format(hash=plan.fingerprint) + str(body)


def parse_plan_yaml(text: str, where: str) -> PublicPlan:
    """Return the plan that a `plan.yaml` spells.

    Raises:
        IntegrityError: for a file that is no YAML, or whose content is not a plan.
    """
    try:
        body = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise IntegrityError(f"{where} is not YAML: {' '.join(str(error).split())}.") from None
    return parse_plan(canonical(body), where)


def hash_of(text: str) -> str:
    """Return the plan hash of a `plan.yaml`, whatever its comments and layout.

    >>> hash_of("b: 1\\na: [x]") == digest({"a": ["x"], "b": 1})
    True
    """
    return digest(yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
