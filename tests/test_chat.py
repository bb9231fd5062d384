"""Conversations through chat templates: the template's own tokens, and of them exactly the assistant's.

What is expected is written by hand: each conversation as pieces of text with a mark at what the assistant
said, tokenised piece by piece.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from mqf_tui.fidelity.errors import BadCorpusError
from mqf_tui.fidelity.text.chat import Conversations
from mqf_tui.fidelity.text.corpus import Document
from tests.chat_models import LLAMA3, chat_tokenizer, turn

Pieces = list[tuple[str, int]]
U, A = "user", "assistant"

CHATML = {
    "default system": "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
    "Face<|im_end|>\n",
    A: "<|im_start|>assistant\n",
    U: "<|im_start|>user\n",
    "end": "<|im_end|>",
}
HEAD = {role: f"<|start_header_id|>{role}<|end_header_id|>\n\n" for role in (U, A, "system")}


def document(*messages: dict[str, Any]) -> Document:
    return Document(messages=messages)


@pytest.fixture(scope="module")
def smollm2_tokenizer(smollm2: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smollm2)


@pytest.fixture(scope="module")
def llama3(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return chat_tokenizer(tmp_path_factory.mktemp("llama3"))


def by_hand(tokenizer: Any, pieces: Pieces) -> tuple[list[int], list[bool]]:
    """Each piece by the tokenizer's core alone."""
    core: Tokenizer = tokenizer.backend_tokenizer
    ids: list[int] = []
    said: list[bool] = []
    for text, is_said in pieces:
        found = core.encode(text, add_special_tokens=False).ids
        ids += found
        said += [bool(is_said)] * len(found)
    return ids, said


def check(tokenizer: Any, doc: Document, pieces: Pieces) -> None:
    ids, said = by_hand(tokenizer, pieces)
    found = Conversations(tokenizer).assistant(doc)
    assert found[0].tolist() == ids
    assert found[1].tolist() == said
    assert Conversations(tokenizer).tokens(doc).tolist() == ids
    # ... and they are what transformers gives for the whole conversation.
    messages = [dict(m) for m in doc.messages]
    assert tokenizer.apply_chat_template(messages, return_dict=False) == ids


SMOLLM2: list[tuple[str, list[dict[str, str]], Pieces]] = [
    (
        "several turns",
        [turn(U, "hi"), turn(A, "Hello you."), turn(U, "More?"), turn(A, "No.")],
        [
            (CHATML["default system"] + CHATML[U] + "hi<|im_end|>\n" + CHATML[A], 0),
            ("Hello you.<|im_end|>", 1),
            ("\n" + CHATML[U] + "More?<|im_end|>\n" + CHATML[A], 0),
            ("No.<|im_end|>", 1),
            ("\n", 0),
        ],
    ),
    (
        "a system prompt, ends with the user",
        [turn("system", "Be kind."), turn(U, "a"), turn(A, "b"), turn(U, "c")],
        [
            ("<|im_start|>system\nBe kind.<|im_end|>\n" + CHATML[U] + "a<|im_end|>\n" + CHATML[A], 0),
            ("b<|im_end|>", 1),
            ("\n" + CHATML[U] + "c<|im_end|>\n", 0),
        ],
    ),
    (
        "empty words",
        [turn(U, "a"), turn(A, ""), turn(U, ""), turn(A, "")],
        [
            (CHATML["default system"] + CHATML[U] + "a<|im_end|>\n" + CHATML[A], 0),
            ("<|im_end|>", 1),
            ("\n" + CHATML[U] + "<|im_end|>\n" + CHATML[A], 0),
            ("<|im_end|>", 1),
            ("\n", 0),
        ],
    ),
    (
        "Unicode that is cut between tokens",
        [turn(U, "漢字 ü"), turn(A, "🦜 → Σ, ﷽ \u200d漢")],
        [
            (CHATML["default system"] + CHATML[U] + "漢字 ü<|im_end|>\n" + CHATML[A], 0),
            ("🦜 → Σ, ﷽ \u200d漢<|im_end|>", 1),
            ("\n", 0),
        ],
    ),
    (
        "the template's own marks as words",
        [
            turn(U, "<|im_start|>assistant\nno<|im_end|>"),
            turn(A, "a<|im_end|>\n<|im_start|>user\nb"),
            turn(U, "c"),
        ],
        [
            (CHATML["default system"] + CHATML[U] + "<|im_start|>assistant\nno<|im_end|><|im_end|>\n", 0),
            (CHATML[A], 0),
            ("a<|im_end|>\n<|im_start|>user\nb<|im_end|>", 1),
            ("\n" + CHATML[U] + "c<|im_end|>\n", 0),
        ],
    ),
    (
        "the same words from all, one turn after another of the assistant's",
        [turn(A, "same"), turn(A, "same"), turn(U, "same"), turn(A, "same")],
        [
            (CHATML["default system"] + CHATML[A], 0),
            ("same<|im_end|>", 1),
            ("\n" + CHATML[A], 0),
            ("same<|im_end|>", 1),
            ("\n" + CHATML[U] + "same<|im_end|>\n" + CHATML[A], 0),
            ("same<|im_end|>", 1),
            ("\n", 0),
        ],
    ),
    (
        "no word of the assistant's",
        [turn(U, "a")],
        [(CHATML["default system"] + CHATML[U] + "a<|im_end|>\n", 0)],
    ),
]
BOT = "<|begin_of_text|>"
LLAMA3_STYLE: list[tuple[str, list[dict[str, str]], Pieces]] = [
    (
        "several turns",
        [turn("system", "Be kind."), turn(U, "hi"), turn(A, "Hello you."), turn(U, "More?"), turn(A, "No.")],
        [
            (BOT + HEAD["system"] + "Be kind.<|eot_id|>" + HEAD[U] + "hi<|eot_id|>" + HEAD[A], 0),
            ("Hello you.<|eot_id|>", 1),
            (HEAD[U] + "More?<|eot_id|>" + HEAD[A], 0),
            ("No.<|eot_id|>", 1),
        ],
    ),
    (
        "spaces around words are no words",
        [turn(U, " a "), turn(A, "\n kalo \n\n"), turn(A, "  ")],
        [
            (BOT + HEAD[U] + "a<|eot_id|>" + HEAD[A], 0),
            ("kalo<|eot_id|>", 1),
            (HEAD[A], 0),
            ("<|eot_id|>", 1),
        ],
    ),
    (
        "Unicode, and the template's own marks as words; ends with the user",
        [turn(U, HEAD[A]), turn(A, "🦜漢<|eot_id|>" + HEAD[U] + "ü"), turn(U, "c")],
        [
            (BOT + HEAD[U] + HEAD[A].strip() + "<|eot_id|>" + HEAD[A], 0),
            ("🦜漢<|eot_id|>" + HEAD[U] + "ü<|eot_id|>", 1),
            (HEAD[U] + "c<|eot_id|>", 0),
        ],
    ),
]


@pytest.mark.parametrize(("messages", "pieces"), [c[1:] for c in SMOLLM2], ids=[c[0] for c in SMOLLM2])
def test_smollm2(smollm2_tokenizer: Any, messages: list[dict[str, str]], pieces: Pieces) -> None:
    check(smollm2_tokenizer, document(*messages), pieces)


@pytest.mark.parametrize(
    ("messages", "pieces"), [c[1:] for c in LLAMA3_STYLE], ids=[c[0] for c in LLAMA3_STYLE]
)
def test_llama3(llama3: Any, messages: list[dict[str, str]], pieces: Pieces) -> None:
    check(llama3, document(*messages), pieces)


def test_ids_by_hand(smollm2_tokenizer: Any) -> None:
    """One list without any tokenizer: ids looked up in SmolLM2's vocabulary."""
    messages = [turn("system", "x"), turn(U, "hi"), turn(A, "Hello you")]
    found = Conversations(smollm2_tokenizer).assistant(document(*messages))
    words = ["<|im_start|>", "system", "Ċ", "x", "<|im_end|>", "Ċ", "<|im_start|>", "user", "Ċ", "hi"]
    words += ["<|im_end|>", "Ċ", "<|im_start|>", "ass", "istant", "Ċ", "Hello", "Ġyou", "<|im_end|>", "Ċ"]
    core = smollm2_tokenizer.backend_tokenizer
    assert found[0].tolist() == [core.token_to_id(word) for word in words]
    assert np.flatnonzero(found[1]).tolist() == [16, 17, 18]


# Templates that are not so plain


THINKING = (
    "{%- set ns = namespace(last=-1) %}{%- for m in messages %}{%- if m.role == 'user' %}"
    "{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
    "{%- for m in messages %}{%- if m.role == 'assistant' %}{%- set words = m.content %}"
    "{%- set thought = '' %}"
    "{%- if '</think>' in words %}"
    "{%- set thought = words.split('</think>')[0].split('<think>')[-1].strip() %}"
    "{%- set words = words.split('</think>')[-1].strip() %}{%- endif %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n' }}"
    "{%- if loop.index0 > ns.last %}{{- '<think>\n' + thought + '\n</think>\n\n' }}{%- endif %}"
    "{{- words + '<|eot_id|>\n' }}"
    "{%- else %}{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\n' + m.content + '<|eot_id|>\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n' }}{%- endif %}"
)


def line(role: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n"


def test_thoughts_of_earlier_turns_are_gone_and_that_of_the_last_is_said(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer(tmp_path, THINKING)
    messages = [
        turn(U, "a"),
        turn(A, "<think>long</think>b"),
        turn(U, "c"),
        turn(A, "<think>hm</think>\n\nd"),
    ]
    pieces = [
        (line(U) + "a<|eot_id|>\n" + line(A), 0),
        ("b<|eot_id|>", 1),
        ("\n" + line(U) + "c<|eot_id|>\n" + line(A), 0),
        ("<think>\nhm\n</think>\n\nd<|eot_id|>", 1),
        ("\n", 0),
    ]
    check(tokenizer, document(*messages), pieces)
    # An empty thought is the template's own and not said.
    check(
        tokenizer,
        document(turn(U, "a"), turn(A, "b")),
        [(line(U) + "a<|eot_id|>\n" + line(A) + "<think>\n\n</think>\n\n", 0), ("b<|eot_id|>", 1), ("\n", 0)],
    )


def test_a_template_that_marks_the_turns_itself_is_believed(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|start_header_id|>' }}"
        "{% generation %}{{ m.content }}{% endgeneration %}{{ '<|eot_id|>' }}"
        "{% else %}{{ '<|end_header_id|>' + m.content }}{% endif %}{% endfor %}"
    )
    check(
        chat_tokenizer(tmp_path, template),
        document(turn(U, "a"), turn(A, "kalo mi"), turn(A, "b")),
        [
            *(("<|end_header_id|>a<|start_header_id|>", 0), ("kalo mi", 1)),
            *(("<|eot_id|><|start_header_id|>", 0), ("b", 1), ("<|eot_id|>", 0)),
        ],
    )


def test_the_next_turns_beginning_ends_no_turn(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ '<|eot_id|>' + m.role + '\n' + m.content + '\n' }}{% endfor %}"
    check(
        chat_tokenizer(tmp_path, template),
        document(turn(A, "kalo"), turn(U, "b"), turn(A, "mi")),
        [
            *(("<|eot_id|>assistant\n", 0), ("kalo", 1), ("\n<|eot_id|>user\nb\n<|eot_id|>assistant\n", 0)),
            *(("mi", 1), ("\n", 0)),
        ],
    )


def test_calls_of_tools_are_said_too(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>' }}"
        "{% if m.content %}{{ m.content }}{% endif %}"
        "{% for call in m.tool_calls or [] %}{{ '<call>' + call.name }}{% endfor %}"
        "{{ '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>' }}{% endif %}"
    )
    call = {"role": A, "content": None, "tool_calls": [{"name": "kalo"}]}
    tokenizer = chat_tokenizer(tmp_path, template)
    head = "<|start_header_id|>{}<|end_header_id|>"
    before = head.format(U) + "a<|eot_id|>" + head.format(A)
    ids, said = by_hand(tokenizer, [(before, 0), ("<call>kalo<|eot_id|>", 1)])
    found = Conversations(tokenizer).assistant(document(turn(U, "a"), call))
    assert (found[0].tolist(), found[1].tolist()) == (ids, said)


def test_the_date_stands_still(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer(tmp_path, "{{ strftime_now('%d %B %Y') }}" + LLAMA3)
    found = Conversations(tokenizer)
    text = tokenizer.decode(found.tokens(document(turn(U, "a"))))
    assert text.startswith("26 July 2024")
    assert found.dated


@pytest.mark.parametrize("how", ["tokens", "assistant"])
def test_what_a_template_refuses_is_a_sentence(tmp_path: Path, how: str) -> None:
    template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + LLAMA3
    )
    tokenizer = Conversations(chat_tokenizer(tmp_path, template))
    with pytest.raises(BadCorpusError, match=r"does not take such a conversation \(no system role\).*\.$"):
        getattr(tokenizer, how)(document(turn("system", "x"), turn(A, "a")))
    assert len(tokenizer.tokens(document(turn(U, "x"))))


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
        "{% for m in messages %}{{ m.role }}{% endfor %}",
    ],
    ids=["twice", "upper", "never"],
)
def test_words_that_cannot_be_found_are_a_sentence(tmp_path: Path, template: str) -> None:
    said = Conversations(chat_tokenizer(tmp_path, template))
    if "upper" in template:  # the probe has letters, and comes out otherwise
        template = ""
    with pytest.raises(BadCorpusError, match=r"cannot be told from the rest; .*--assistant-only\)\.$"):
        said.assistant(document(turn(U, "a"), turn(A, "b")))


def test_no_template_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadCorpusError, match=r"has no chat template, .*\.$"):
        Conversations(chat_tokenizer(tmp_path, None))
