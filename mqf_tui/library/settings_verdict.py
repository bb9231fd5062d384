"""``[verdict]`` of the settings file: thresholds of one's own."""

from __future__ import annotations

import math
from typing import Any

from mqf_tui.fidelity.settings import is_number
from mqf_tui.fidelity.verdict import KV_POLICY
from mqf_tui.library.settings_file import SettingsFile, quoted
from mqf_tui.reports.schema import Thresholds
from mqf_tui.reports.text import inert

LIMITS = ("kl_mean", "kl_p99", "flip_rate")
MAX_NAME = 40
SECTION = "verdict"


def policy_of(file: SettingsFile) -> Thresholds | None:
    """The user's own thresholds, None where they have none; raises BadSettingError."""
    table = file.table(SECTION)
    if not table:
        return None
    file.check_keys("[verdict]", table, ("policy", *LIMITS), SECTION)
    own: dict[str, Any] = {name: _limits(file, name, table[name]) for name in LIMITS if name in table}
    if not own:
        raise file.bad("[verdict] sets no limit", f"give it one of {', '.join(LIMITS)}", key=SECTION)
    return KV_POLICY.model_copy(update=own | {"policy": _name(file, table.get("policy"))})


def _limits(file: SettingsFile, name: str, value: Any) -> tuple[float, float]:
    most, word = (1.0, "shares from 0 to 1") if name == "flip_rate" else (math.inf, "numbers of nats from 0")
    pair = value if isinstance(value, list) else []
    fits = len(pair) == 2 and all(is_number(v) for v in pair)
    if not (fits and 0 <= pair[0] <= pair[1] <= most):
        good, marginal = getattr(KV_POLICY, name)
        raise file.bad(
            f"{name} is {quoted(value)}",
            f"use two {word}, good first and no more than marginal, such as [{good:g}, {marginal:g}]",
            SECTION,
            key=name,
        )
    return float(pair[0]), float(pair[1])


def _name(file: SettingsFile, value: Any) -> str:
    if value is None:
        return f"{KV_POLICY.policy} as changed in {file.path.name}"
    name = " ".join(inert(value).split()) if isinstance(value, str) else ""
    wrong = f"policy is {quoted(value)}"
    if not 0 < len(name) <= MAX_NAME:
        raise file.bad(wrong, f"use a name of 1 to {MAX_NAME} characters in quotes", SECTION, key="policy")
    if name == KV_POLICY.policy:
        raise file.bad(f"{wrong}, which names the default", "choose another name", SECTION, key="policy")
    return name
