"""What fits at a context in so much memory: sizes as people write them, and sums worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from mqf_tui.fidelity import budget
from mqf_tui.fidelity.budget import fits_at, fitting_words, max_kv_bytes_per_token, parse_bytes, parse_tokens
from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.fidelity.model.facts import ModelFacts
from mqf_tui.fidelity.model.shapes import shape_of
from mqf_tui.fidelity.quantizers import LayerQuantizers, parsed

GB = 10**9
FULL = LayerQuantizers()
# Llama 3.1 8B in 4 bits, as mlx-community has it.
CONFIG = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "tie_word_embeddings": False,
}
LLAMA = ModelFacts(
    folder=Path("nowhere"),
    name="llama-8b",
    architecture="llama",
    n_layers=32,
    n_heads=32,
    n_kv_heads=8,
    head_dim=128,
    v_head_dim=128,
    vocab_size=128256,
    context=131072,
    weight_bits=4,
    weight_group_size=64,
    dtype="float16",
    size_bytes=4_517_000_000,
    n_parameters=8_030_000_000,
    content_hash="0",
)
SHAPE = shape_of(LLAMA, CONFIG)
PER_TOKEN = 32 * 8 * (128 + 128) * 2  # 131,072 bytes in 16 bits: the figure that everyone quotes for it
WORKING = 300_000_000 + 4 * 2048 * 14336 * 2


@pytest.mark.parametrize(
    ("word", "tokens"),
    [
        ("32k", 32768),
        ("131072", 131072),
        ("128K", 131072),
        (" 8 k ", 8192),
        ("1M", 1048576),
        ("0.5k", 512),
        ("1.5k", 1536),
        ("32,768", 32768),
        ("131_072", 131072),
    ],
)
def test_tokens_as_people_write_them(word: str, tokens: int) -> None:
    assert parse_tokens(word) == tokens


@pytest.mark.parametrize(
    ("word", "amount"),
    [
        ("8GB", 8 * GB),
        ("7.5GiB", 7_5 * 2**30 // 10),
        ("500 MB", 500_000_000),
        ("8g", 8 * GB),
        ("1TB", 10**12),
        ("16gib", 16 * 2**30),
        ("8000000000", 8 * GB),
        ("8,000,000,000", 8 * GB),
        (".5GB", GB // 2),
        ("2000000B", 2_000_000),
    ],
)
def test_memory_as_people_write_it(word: str, amount: int) -> None:
    assert parse_bytes(word) == amount


BAD = [
    "",
    "  ",
    "k",
    "GB",
    "-8k",
    "-8GB",
    "8 apples",
    "1e9",
    "inf",
    "nan",
    "8GBB",
    "8..5GB",
    "0",
    "0GB",
    "1,5GB",
]
BAD += ["٣٢k", "9" * 40, "8GB 8GB", "0x10"]


@pytest.mark.parametrize("word", BAD)
def test_what_is_none_is_refused_in_one_sentence(word: str) -> None:
    for parse in (parse_tokens, parse_bytes):
        with pytest.raises(BadSettingError) as error:
            parse(word)
        text = str(error.value)
        assert text.endswith(".")
        assert "\n" not in text
        assert "such as" in text


def test_fractions_of_a_token_and_bare_small_numbers_are_refused() -> None:
    with pytest.raises(BadSettingError, match="whole number"):
        parse_tokens("0.3k")
    with pytest.raises(BadSettingError, match="counts as bytes"):
        parse_bytes("8")
    with pytest.raises(BadSettingError, match="less than 1 MB"):
        parse_bytes("8kB")


def test_sums_by_hand() -> None:
    fit = fits_at(LLAMA, FULL, 32768, 8 * GB, shape=SHAPE)
    assert fit.weights_bytes == 4_517_000_000
    assert fit.cache_bytes == 32768 * PER_TOKEN  # 4.29 GB
    assert fit.working_bytes == WORKING
    assert fit.prompt_bytes == 0
    assert not fit.fits  # 9.3 GB
    four = fits_at(LLAMA, parsed("4g64"), 32768, 8 * GB, shape=SHAPE)
    assert four.cache_bytes == 32768 * PER_TOKEN / 16 * 4.5
    assert four.fits
    # mlx-lm's quantized attention keeps heads x step x window scores of 16 bits.
    assert four.prompt_bytes == 32 * 2048 * 32768 * 2


def test_most_bytes_per_token_is_what_just_fits() -> None:
    most = max_kv_bytes_per_token(LLAMA, 32768, 8 * GB, shape=SHAPE)
    assert most == (8 * GB - 4_517_000_000 - WORKING) / 32768
    for word in ("16", "8g32", "8g64", "6g64", "4g64", "k8v4g64"):
        quantizers = parsed(word)
        fit = fits_at(LLAMA, quantizers, 32768, 8 * GB, shape=SHAPE)
        assert fit.fits == (fit.cache_bytes / 32768 <= most), word


def test_bounded_layers_are_taken_off_first() -> None:
    types = ["sliding_attention", "full_attention"] * 16
    config = CONFIG | {"model_type": "llama", "sliding_window": 1024, "layer_types": types}
    shape = shape_of(LLAMA, config)
    most = max_kv_bytes_per_token(LLAMA, 32768, 8 * GB, shape=shape)
    bounded = 1024 * PER_TOKEN / 2
    assert most == (8 * GB - 4_517_000_000 - WORKING - bounded) / 32768
    fit = fits_at(LLAMA, parsed("4g64"), 32768, 8 * GB, shape=shape)
    assert fit.cache_bytes == bounded + 32768 * PER_TOKEN / 2 / 16 * 4.5


FORMATS = tuple(map(parsed, ("8g64", "6g64", "4g64", "3g64", "k8v4g64")))


@pytest.mark.parametrize(
    ("memory", "words"),
    [
        (16 * GB, "at 32,768 tokens in 16.0 GB: even the full-precision cache fits."),
        (8 * GB, "at 32,768 tokens in 8.0 GB: all 5 settings fit."),
        (6.9 * GB, "at 32,768 tokens in 6.9 GB: 6-bit group 64 and smaller fit."),
        (6.5 * GB, "at 32,768 tokens in 6.5 GB: 4-bit group 64 and smaller fit."),
        (6.0 * GB, "at 32,768 tokens in 6.0 GB: only 3-bit group 64 fits."),
    ],
)
def test_words(memory: float, words: str) -> None:
    assert fitting_words(LLAMA, FORMATS, 32768, memory, shape=SHAPE) == words


def test_words_where_none_fits_name_the_smallest() -> None:
    words = fitting_words(LLAMA, FORMATS, 131072, 6 * GB, shape=SHAPE)
    assert words.startswith(
        "at 131,072 tokens in 6.0 GB: none of the settings fits; the smallest, 3-bit group 64"
    )


def test_weights_that_do_not_fit_and_a_context_that_is_none() -> None:
    with pytest.raises(BadSettingError, match=r"weights take 4\.5 GB"):
        max_kv_bytes_per_token(LLAMA, 32768, 4 * GB, shape=SHAPE)
    with pytest.raises(BadSettingError, match="--context 131072 or less"):
        fitting_words(LLAMA, FORMATS, 200_000, 64 * GB, shape=SHAPE)


def test_keys_and_values_apart_in_words() -> None:
    assert budget.format_words(parsed("k8v4g64")) == "k8v4g64"
    assert budget.format_words(parsed("mxfp4")) == "mxfp4"
    assert budget.format_words(FULL) == "full precision"
