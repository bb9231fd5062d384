"""Conversations as files write them -> messages of ``role`` and ``content``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mqf_tui.fidelity.errors import BadCorpusError
from mqf_tui.fidelity.text.corpus import Document
from mqf_tui.reports.text import inert

COLUMNS = ("messages", "conversations", "conversation")
SHAREGPT_ROLES = {
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", "bot", "model"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "observation", "function_response"), "tool"),
}
TEXT_KINDS = ("text", "input_text", "output_text")


def looks_like_one(value: Any) -> bool:
    """Whether a value is a list of messages."""
    return (
        _is_list(value)
        and len(value) > 0
        and isinstance(value[0], Mapping)
        and (set(value[0]) >= {"role"} or set(value[0]) >= {"from", "value"})
    )


def conversation(row: Mapping[str, Any], value: Any, where: str) -> Document | None:
    """The conversation ``value`` of a row, with the row's ``tools`` and ``system``; None where it is empty.

    ``where`` begins messages, such as ``line 3 of chats.jsonl``. Raises BadCorpusError.
    """
    if not _is_list(value):
        raise BadCorpusError(f"{where} has no list of messages; write [{{role, content}}, …] there.")
    messages = [_message(one, f"message {n} of {where}") for n, one in enumerate(value, 1)]
    if not messages:
        return None
    system = row.get("system")
    if isinstance(system, str) and system.strip() and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    return Document(messages=tuple(messages), tools=_tools(row.get("tools"), where))


def _message(given: Any, where: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise BadCorpusError(f"{where} is no object with role and content; write it as one.")
    # Tables give every message all the fields that any has.
    message = {str(key): value for key, value in given.items() if value is not None}
    if "role" not in message and "from" in message:
        return _sharegpt(message, where)
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise BadCorpusError(f"{where} has no role; give it one such as user or assistant.")
    calls = _calls(message.get("tool_calls"), where)
    if "content" not in message and not calls and "function_call" not in message:
        raise BadCorpusError(f"{where} has no content; give it one, or take the message out.")
    message["content"] = _content(message.get("content", ""), where)
    message.pop("tool_calls", None)
    return message | ({"tool_calls": calls} if calls else {})


def _sharegpt(message: dict[str, Any], where: str) -> dict[str, Any]:
    role = SHAREGPT_ROLES.get(str(message["from"]).lower())
    if role is None:
        raise BadCorpusError(
            f"{where} is from {inert(repr(message['from']))[:60]}, who is not known; use human, gpt, system "
            "or tool."
        )
    if "value" not in message:
        raise BadCorpusError(f"{where} has no value; give it one, or take the message out.")
    return {"role": role, "content": _content(message["value"], where)}


def _content(value: Any, where: str) -> str:
    """Text, or the texts of a list of parts."""
    if isinstance(value, str):
        return value
    if not _is_list(value):
        raise BadCorpusError(f"the content of {where} is no text; write it as a string.")
    texts: list[str] = []
    for part in value:
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = part.get("type", "text") if isinstance(part, Mapping) else None
        text = part.get("text") if isinstance(part, Mapping) else None
        if kind not in TEXT_KINDS or not isinstance(text, str):
            raise BadCorpusError(
                f"{where} has a part of the kind {inert(repr(kind))[:60]}, and only text can be measured; "
                "take such messages out."
            )
        texts.append(text)
    return "".join(texts)


def _calls(given: Any, where: str) -> list[Any]:
    """Tool calls with their arguments as objects, which is what templates expect; APIs give them as JSON."""
    if not given:
        return []
    if not _is_list(given) or not all(isinstance(call, Mapping) for call in given):
        raise BadCorpusError(f"{where} has tool_calls that are no list of objects; write them as one.")
    return [_call(call) for call in given]


def _call(given: Mapping[str, Any]) -> dict[str, Any]:
    call = {str(key): value for key, value in given.items() if value is not None}
    if isinstance(call.get("function"), Mapping):
        return call | {"function": _call(call["function"])}
    if isinstance(call.get("arguments"), str):
        parsed = _parsed(call["arguments"])
        return call | {"arguments": parsed} if isinstance(parsed, dict) else call
    return call


def _tools(given: Any, where: str) -> tuple[Any, ...]:
    """What the model is told of tools: a list, or the JSON of one."""
    if isinstance(given, str):
        given = _parsed(given) if given.strip() else None
        if given is None:
            return ()
    if given is None:
        return ()
    if not _is_list(given):
        raise BadCorpusError(f"the tools of {where} are no list; write them as one.")
    return tuple(given)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
