"""What ``--context``, ``--memory`` and ``--max-kv-bytes-per-token`` come to together."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mqf_tui.fidelity.errors import BadSettingError

if TYPE_CHECKING:
    from mqf_tui.fidelity.settings import KVSettings


def allowed_bytes(options: argparse.Namespace, model: KVSettings) -> float | None:
    """The most KV bytes per token of a 16-bit cache that the options allow ``model``; None: any number.

    Raises BadSettingError.
    """
    most = options.max_kv_bytes_per_token
    if most is not None and not 0 < most < float("inf"):
        raise BadSettingError(f"--max-kv-bytes-per-token is {most:g}; use a number above 0.")
    if (options.context is None) != (options.memory is None):
        raise BadSettingError("--context and --memory belong together; give both, such as 32k and 8GB.")
    if options.context is None:
        return most
    from mqf_tui import api
    from mqf_tui.fidelity.budget import max_kv_bytes_per_token

    room = max_kv_bytes_per_token(api.facts_of(model), options.context, options.memory)
    return room if most is None else min(most, room)
