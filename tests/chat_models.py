"""Tokenizers with chat templates, and a tiny model with one, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests import makers

LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim"
    " + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


def write_chat_tokenizer(folder: Path, template: str | None = LLAMA3) -> Path:
    """A byte-level BPE of makers.VOCAB tokens with Llama 3's special ones, which begins a text with BOS."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=makers.VOCAB,
        special_tokens=[*SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([makers.words(2000, seed=1)], trainer)
    bos = SPECIAL[0]
    made.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, made.token_to_id(bos))]
    )
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos, "eos_token": "<|eot_id|>"}
    kind |= {"chat_template": template} if template is not None else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(kind))
    return folder


def chat_tokenizer(folder: Path, template: str | None = LLAMA3) -> Any:
    """The same, loaded."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(write_chat_tokenizer(folder, template))


def chat_model(folder: Path) -> Path:
    """A tiny Llama with that tokenizer."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(makers.config()))
    write_chat_tokenizer(folder)
    makers.write_weights(folder)
    return folder


def turn(role: str, content: str) -> dict[str, str]:
    """One message."""
    return {"role": role, "content": content}


def chat_file(path: Path, conversations: list[list[dict[str, str]]]) -> Path:
    """JSON lines with messages."""
    lines = (json.dumps({"messages": messages}) for messages in conversations)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def conversations(n: int, n_words: int = 12, seed: int = 0) -> list[list[dict[str, str]]]:
    """Made-up conversations of two or three exchanges, no two alike."""
    found: list[list[dict[str, str]]] = []
    for i in range(n):
        texts = [
            makers.words(n_words + 3 * ((i + j) % 4), seed=seed + 10 * i + j) for j in range(4 + 2 * (i % 2))
        ]
        found.append([turn(("user", "assistant")[j % 2], text) for j, text in enumerate(texts)])
    return found
