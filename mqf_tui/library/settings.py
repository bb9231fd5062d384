"""The user's settings file, ``settings.toml``: so far, thresholds of one's own for the verdict.

    [verdict]
    policy = "mine"             # a name, for the reports
    kl_mean = [0.005, 0.05]     # the most that is still good, the most that is still marginal (nats)
    kl_p99 = [0.05, 0.5]
    flip_rate = [0.005, 0.02]   # shares

What is left out is the default's.
"""

from __future__ import annotations

import math
import os
import tomllib
from pathlib import Path
from typing import Any

from mqf_tui.fidelity.errors import BadSettingError, brief
from mqf_tui.fidelity.settings import is_number
from mqf_tui.fidelity.verdict import KV_POLICY
from mqf_tui.reports.schema import Thresholds
from mqf_tui.reports.text import inert

LIMITS = ("kl_mean", "kl_p99", "flip_rate")
MAX_NAME = 40


def config_dir() -> Path:
    """Where this user's settings live; ``MQF_TUI_CONFIG_DIR`` overrides."""
    import platformdirs

    override = os.environ.get("MQF_TUI_CONFIG_DIR")
    return (
        Path(os.path.expanduser(override))
        if override
        else Path(platformdirs.user_config_dir("mqf-tui", appauthor=False))
    )


def settings_file() -> Path:
    """The settings file, whether there is one or not."""
    return config_dir() / "settings.toml"


def user_policy() -> Thresholds | None:
    """The user's own thresholds, None where they have none; raises BadSettingError."""
    path = settings_file()
    table = _verdict_table(path)
    if not table:
        return None
    _known_keys(path, "[verdict]", table, ("policy", *LIMITS))
    own: dict[str, Any] = {name: _limits(path, name, table[name]) for name in LIMITS if name in table}
    if not own:
        raise _bad(path, "[verdict] sets no limit", f"give it one of {', '.join(LIMITS)}")
    return KV_POLICY.model_copy(update=own | {"policy": _name(path, table.get("policy"))})


def _verdict_table(path: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadSettingError(
            f"the settings file {path} cannot be read ({error.strerror}); make it readable or remove it."
        ) from error
    except UnicodeDecodeError as error:
        raise _bad(path, f"it is not UTF-8 text (byte {error.start})", "save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"it is not valid TOML ({brief(error)})", "mend it or remove it") from error
    _known_keys(path, "it", data, ("verdict",))
    table = data.get("verdict", {})
    if not isinstance(table, dict):
        raise _bad(path, f"verdict is {_quoted(table)}", "make it a table that begins with [verdict]")
    return table


def _known_keys(path: Path, where: str, table: dict[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise _bad(
                path, f"{where} has an unknown key {_quoted(key)}", f"there is only {', '.join(known)}"
            )


def _limits(path: Path, name: str, value: Any) -> tuple[float, float]:
    most, word = (1.0, "shares from 0 to 1") if name == "flip_rate" else (math.inf, "numbers of nats from 0")
    pair = value if isinstance(value, list) else []
    fits = len(pair) == 2 and all(is_number(v) for v in pair)
    if not (fits and 0 <= pair[0] <= pair[1] <= most):
        good, marginal = getattr(KV_POLICY, name)
        raise _bad(
            path,
            f"{name} is {_quoted(value)}",
            f"use two {word}, good first and no more than marginal, such as [{good:g}, {marginal:g}]",
        )
    return float(pair[0]), float(pair[1])


def _name(path: Path, value: Any) -> str:
    if value is None:
        return f"{KV_POLICY.policy} as changed in {path.name}"
    name = " ".join(inert(value).split()) if isinstance(value, str) else ""
    if not 0 < len(name) <= MAX_NAME:
        raise _bad(path, f"policy is {_quoted(value)}", f"use a name of 1 to {MAX_NAME} characters in quotes")
    if name == KV_POLICY.policy:
        raise _bad(path, f"policy is {_quoted(value)}, which names the default", "choose another name")
    return name


def _bad(path: Path, what: str, how: str) -> BadSettingError:
    return BadSettingError(f"the settings file {path} cannot be used: {what}; {how}.")


def _quoted(value: Any) -> str:
    word = repr(value)
    return word if len(word) <= 60 else word[:57] + "…"
