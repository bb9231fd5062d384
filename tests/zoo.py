"""A zoo of broken and odd model folders: how each is made of a good one, and what must be said of it.

``python -m tests.zoo FOLDER`` builds it to look at.
"""

from __future__ import annotations

import shutil
import struct
import sys
from pathlib import Path

from tests import makers
from tests.zoo_parts import (
    ABSENT,
    CONFIG,
    INDEX,
    MODEL_CODE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    WEIGHTS,
    Animal,
    Q,
    adapter,
    at_load,
    backwards,
    both,
    broken,
    code,
    config_with,
    config_without,
    configured,
    content,
    cut,
    denied,
    directory,
    empty,
    entry,
    escaped,
    extra,
    fine,
    generation_code,
    gone,
    index_of,
    indexed,
    keep,
    large,
    large_ids,
    link,
    listening,
    loop,
    marked,
    mixed,
    moved_away,
    own,
    parts,
    pickled,
    pipe,
    put,
    quantized,
    shift,
    small_vocabulary,
    template,
    tensors,
    tokenizer_code,
    tokenizer_configured,
    tokenizer_with,
    twice,
    value,
    vision,
    whole_numbers,
    without_tensor,
)

DAMAGED = r"model.safetensors is truncated or damaged \(.*{}.*\); download the model again"
UNFIT = r"the weights of .* do not fit its configuration \(.*{}"
SIZES, RIDDLE = DAMAGED.format("disagree"), DAMAGED.format("cannot be understood")
OUTSIDE, LEADS_OUT = "code outside its folder.*do not use", "points outside its folder .*do not use"
NO_TOKENIZER = "the tokenizer of .* cannot be loaded .*{}"
NO_ARCHITECTURE = "does not know the architecture .*{}"
NO_FILE = r"{} .*cannot be read \(it is {}, not a file\)"
GIANT = r"{} (of .* )?has {}, more than that of any model; download the model again"
CODE = r"carries its own Python code \({}\), which would run .*--trust-remote-code"
IMPOSSIBLE = r"impossible value \(.*{}.*\); download the model again"
NO_JSON = r"config.json of .* is not valid JSON{}; download the model again"
PICKLED = "a Python pickle under another name, which can hold code; do not use this model"

OF_WEIGHTS: dict[str, Animal] = {
    "missing shard": broken(
        indexed(more="model-00002-of-00002.safetensors"), "model-00002-of-00002.safetensors.* missing"
    ),
    "truncated weights": broken(cut(WEIGHTS, lambda n: n // 2), SIZES),
    "one byte short": broken(cut(WEIGHTS, lambda n: n - 1), SIZES),
    "truncated header": broken(cut(WEIGHTS, lambda n: 100), SIZES),
    "weights of 0 bytes": broken(cut(WEIGHTS, lambda n: 0), SIZES),
    "header of 2^60 bytes": broken(lambda f: put(f, *parts(f), 2**60), SIZES),
    "header of 0 bytes": broken(lambda f: put(f, b"", parts(f)[1]), RIDDLE),
    "header of 90 MB": broken(
        large(WEIGHTS, 95_000_000, struct.pack("<Q", 90_000_000) + b"{"),
        "header of model.safetensors has 90.0 MB",
    ),
    "header is no JSON": broken(lambda f: put(f, b"{'a': 1}", b"1234"), RIDDLE),
    "header is too deep": broken(lambda f: put(f, b'{"a":' + b"[" * 200_000), RIDDLE),
    "header of many small lists": broken(lambda f: put(f, b'{"a":[' + b"[]," * 2_600_000 + b"1]}"), RIDDLE),
    "tensor named twice": broken(twice, DAMAGED.format("twice")),
    "tensors that overlap": broken(shift, DAMAGED.format("lies where another tensor is")),
    "offsets that go backwards": broken(backwards, DAMAGED.format("q_proj")),
    "offsets before the data": broken(entry(data_offsets=[-16384 * 2, -16384]), DAMAGED.format("q_proj")),
    "offsets beyond the file": broken(lambda f: put(f, parts(f)[0], parts(f)[1][:-4096]), SIZES),
    "offsets unlike the shape": broken(entry(shape=[128, 65]), DAMAGED.format("q_proj.*space.*shape")),
    "negative shape": broken(entry(shape=[-128, -64]), DAMAGED.format("q_proj.*impossible shape")),
    "shape of 2^63": broken(entry(shape=[0, 2**63]), DAMAGED.format("q_proj.*impossible shape")),
    "shape that wraps around": broken(
        entry(shape=[2**32 + 128, 64]), DAMAGED.format("q_proj.*impossible shape")
    ),
    "fraction in a shape": broken(entry(shape=[128, 64.0]), DAMAGED.format("64.0")),
    "unknown number type": broken(entry(dtype="F7"), "holds numbers of type 'F7' .*q_proj.*MLX cannot read"),
    "numbers of 64 bits": broken(
        entry(dtype="F64", shape=[64, 64]), "holds numbers of type 'F64' .*MLX cannot read.*mlx_lm.convert"
    ),
    "whole numbers for weights": at_load(tensors(whole_numbers), r"do not fit .*\(.*q_proj.*int32"),
    "NaN weights": at_load(value(float("nan")), r"not-a-number values \(in .*up_proj.weight\)", 1),
    "infinite weights": at_load(value(float("inf")), "not-a-number|not a number", 1),
    "index is no JSON": broken(content(INDEX, "{"), f"{INDEX} cannot be read"),
    "index is a list": broken(content(INDEX, []), f"{INDEX} cannot be read"),
    "index of 30 MB": broken(large(INDEX, 30_000_000), GIANT.format(INDEX, "30.0 MB")),
    "index of many small lists": broken(
        content(INDEX, b"[" + b"[]," * 6_000_000 + b"1]"), f"{INDEX} cannot be read"
    ),
    "index leads out": broken(indexed(more="../../etc/passwd"), LEADS_OUT),
    "index leads to the root": broken(indexed(more="/etc/passwd"), LEADS_OUT),
    "index of a very long name": broken(
        indexed(more="x" * 5000), r"[ (]x{80} is missing|[ (]x{80}\) missing"
    ),
    "index of a name with a zero": broken(indexed(more="a\0b"), "missing"),
    "index of a tensor too many": fine(indexed(more=WEIGHTS)),
    "index of a tensor that is nowhere": at_load(
        both(lambda f: content(INDEX, index_of(f, {}))(f), without_tensor(Q)), UNFIT.format("q_proj")
    ),
    "layer too few": broken(configured(num_hidden_layers=3), UNFIT.format("3 layers .*2 are there")),
    "layer too many": at_load(configured(num_hidden_layers=1), UNFIT.format("layers.1")),
    "tied weights absent": at_load(without_tensor("lm_head.weight"), UNFIT.format("lm_head")),
    "tied weights there as well": fine(configured(tie_word_embeddings=True), same=False),
    "extra weights": at_load(tensors(extra), UNFIT.format("surprise")),
    "mixed quantization": fine(quantized(mixed), same=False),
    "8 bits": fine(quantized(), same=False),
    "7 bits": at_load(quantized(config=own(bits=7)), "do not fit .*7"),
    "groups of 48": at_load(quantized(config=own(group_size=48)), "do not fit .*48"),
    "says 7 bits and has 8": fine(
        quantized(config={"quantization": {"bits": 7, "group_size": 48}}), same=False
    ),
    "quantized without scales": at_load(quantized(drop=(".scales",)), "do not fit"),
    "scales nobody speaks of": at_load(quantized(config={}), "do not fit"),
    "quantization is text": at_load(configured(quantization="int4"), "cannot build|do not fit"),
}

OF_FILES: dict[str, Animal] = {
    "pickle only": broken(
        both(gone(WEIGHTS), pickled("pytorch_model.bin")),
        "holds PyTorch pickle weights; only MLX's safetensors can be measured|weights missing",
    ),
    "pickle beside": fine(both(pickled("pytorch_model.bin"), pickled("model.bin"), pickled("model.pt"))),
    "pickle inside": broken(pickled(WEIGHTS), PICKLED),
    "old pickle inside": broken(content(WEIGHTS, b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."), PICKLED),
    "zip inside": broken(content(WEIGHTS, b"PK\x03\x04\0\0\x08\x08\0\0archive/data.pkl"), PICKLED),
    "GGUF inside": broken(content(WEIGHTS, b"GGUF\x03\0\0\0" + bytes(64)), "a GGUF file under another name"),
    "web page inside": broken(content(WEIGHTS, "<!DOCTYPE html><p>Sign in"), "a web page, not the weights"),
    "GGUF only": broken(
        both(gone(WEIGHTS), content("model-q4.gguf", b"GGUF\x03\0\0\0")), "holds GGUF weights|weights missing"
    ),
    "LFS pointer": broken(
        content(WEIGHTS, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"),
        "Git LFS pointer.*git lfs pull",
    ),
    "model file": broken(
        both(configured(model_file="own.py"), code("own.py", MODEL_CODE), code("helper.py")),
        CODE.format("own.py, helper.py"),
    ),
    "model file that is not there": broken(
        configured(model_file="own.py"), r"code of its own \(own.py\), which is not in its folder"
    ),
    "model file elsewhere": broken(configured(model_file="../../own.py"), OUTSIDE),
    "model file at the root": broken(configured(model_file="/tmp/own.py"), OUTSIDE),
    "model file is a pipe": broken(
        both(configured(model_file="own.py"), pipe("own.py")), "own.py .*named pipe"
    ),
    "mapped code": broken(
        both(
            configured(auto_map={"AutoConfig": "configuration_own.C", "AutoModel": "modeling_own.M"}),
            code("configuration_own.py"),
            code("modeling_own.py"),
        ),
        CODE.format("configuration_own.py, modeling_own.py"),
    ),
    "mapped code elsewhere": broken(configured(auto_map={"AutoConfig": "/tmp/evil.Config"}), OUTSIDE),
    "mapped code that is not there": fine(configured(auto_map={"AutoModel": "modeling_own.M"})),
    "code nobody names": fine(
        both(code("modeling_own.py"), code("tokenization_own.py"), code("conftest.py"))
    ),
    "generation code": fine(generation_code),
    "tokenizer code": broken(tokenizer_code(), CODE.format("tokenization_own.py")),
    "tokenizer code, old form": broken(
        tokenizer_code(auto_map=["tokenization_own.Own", None]), CODE.format("tokenization_own.py")
    ),
    "tokenizer code, hidden": broken(escaped, CODE.format("tokenization_own.py")),
    "tokenizer code elsewhere": broken(
        tokenizer_configured(auto_map={"AutoTokenizer": ["../x.Own", None]}), OUTSIDE
    ),
    "template with attributes": fine(template("{{ ''.__class__.__mro__[1].__subclasses__() }}")),
    "template without end": fine(
        template("{% for i in range(10**9) %}{% for j in range(10**9) %}x" + 2 * "{% endfor %}")
    ),
    "template that is none": fine(template("{% for %}")),
    "no tokenizer": broken(gone(TOKENIZER), "no tokenizer|tokenizer missing"),
    "tokenizer cut off": broken(cut(TOKENIZER, lambda n: n // 2), NO_TOKENIZER.format("cut off")),
    "tokenizer of 0 bytes": broken(cut(TOKENIZER, lambda n: 0), NO_TOKENIZER.format("empty")),
    "tokenizer of 200 MB": broken(large(TOKENIZER, 200_000_000, b"{"), GIANT.format(TOKENIZER, "200 MB")),
    "tokenizer is a list": broken(content(TOKENIZER, [1]), NO_TOKENIZER.format("no object")),
    "tokenizer of nothing": at_load(content(TOKENIZER, {"version": "1.0"}), NO_TOKENIZER.format("")),
    "tokenizer of a strange kind": at_load(
        content(TOKENIZER, {"version": "1.0", "added_tokens": [], "model": {"type": "Oracle", "vocab": {}}}),
        NO_TOKENIZER.format(""),
    ),
    "tokenizer that panics": at_load(
        tokenizer_with(continuing_subword_prefix="longer than any"), NO_TOKENIZER.format("out of range")
    ),
    "tokenizer that cannot read": at_load(
        tokenizer_configured(model_max_length="x"), NO_TOKENIZER.format("not supported")
    ),
    "tokenizer's settings are a list": at_load(content(TOKENIZER_CONFIG, []), NO_TOKENIZER.format("")),
    "tokenizer's settings of 0 bytes": at_load(content(TOKENIZER_CONFIG, ""), NO_TOKENIZER.format("")),
    "tokenizer's settings of 20 MB": broken(
        large(TOKENIZER_CONFIG, 20_000_000), GIANT.format(TOKENIZER_CONFIG, "20.0 MB")
    ),
    "tokenizer of an unknown class": fine(tokenizer_configured(tokenizer_class="../../Evil")),
    "tokenizer knows more": at_load(large_ids, "gives token 5000, but the model knows only 300"),
    "tokenizer knows less": fine(small_vocabulary, same=False),
    "generation settings are a list": broken(content("generation_config.json", []), "is not an object"),
    "generation settings are no JSON": fine(content("generation_config.json", "{")),
    "generation settings are no text": broken(
        content("generation_config.json", b"\xff\xfe{"), "cannot be read"
    ),
    "generation settings are too deep": broken(
        content("generation_config.json", "[" * 100_000), "cannot be read"
    ),
    "link to weights elsewhere": fine(moved_away),
    "link to a secret": broken(link(WEIGHTS, "/etc/passwd"), SIZES),
    "configuration is a secret": broken(link(CONFIG, "/etc/passwd"), NO_JSON.format("")),
    "link to the folder itself": fine(link("again", ".")),
    "link that loops": broken(link(WEIGHTS, WEIGHTS), r"cannot be read|weights missing"),
    "folder is a loop": Animal(loop, ABSENT, "there is no folder|cannot be read"),
    "blob of the weights gone": broken(link(WEIGHTS, "../blobs/none"), "cannot be read|missing"),
    "blob of the configuration gone": broken(link(CONFIG, "../blobs/none"), "config.json .*(gone|missing)"),
    "blob of the tokenizer gone": broken(link(TOKENIZER, "../blobs/none"), "no tokenizer|tokenizer missing"),
    "weights are a pipe": broken(pipe(WEIGHTS), NO_FILE.format(WEIGHTS, "a named pipe")),
    "configuration is a pipe": broken(pipe(CONFIG), NO_FILE.format(CONFIG, "a named pipe")),
    "tokenizer is a pipe": broken(pipe(TOKENIZER), NO_FILE.format(TOKENIZER, "a named pipe")),
    "index is a pipe": broken(pipe(INDEX), NO_FILE.format(INDEX, "a named pipe")),
    "tokenizer's settings are a pipe": broken(
        pipe(TOKENIZER_CONFIG), NO_FILE.format(TOKENIZER_CONFIG, "a named pipe")
    ),
    "generation settings are a pipe": broken(
        pipe("generation_config.json"), NO_FILE.format("generation_config.json", "a named pipe")
    ),
    "template is a pipe": broken(
        pipe("additional_chat_templates/tool.jinja"), NO_FILE.format("tool.jinja", "a named pipe")
    ),
    "weights are a socket": broken(listening(WEIGHTS), NO_FILE.format(WEIGHTS, "a socket")),
    "weights are a device": broken(link(WEIGHTS, "/dev/zero"), NO_FILE.format(WEIGHTS, "a device")),
    "configuration is a device": broken(link(CONFIG, "/dev/zero"), NO_FILE.format(CONFIG, "a device")),
    "weights are a directory": broken(
        both(gone(WEIGHTS), directory(WEIGHTS)), NO_FILE.format(WEIGHTS, "a directory")
    ),
    "configuration is a directory": broken(
        both(gone(CONFIG), directory(CONFIG)), NO_FILE.format(CONFIG, "a directory")
    ),
    "no permission": broken(denied, r"model.safetensors cannot be read \(Permission denied\)"),
    "adapter only": Animal(adapter, ABSENT, "an adapter without its model; .*mlx_lm.fuse"),
    "sees and reads": fine(vision),
    "empty": Animal(empty, ABSENT, "is empty, so it is no model folder"),
    "name that drives a terminal": fine(keep, name="evil\x1b]0;owned\x07\x1bc\nnext"),
    "name from right to left": fine(keep, name="llama\u202e\u2066gpj"),
    "name as long as may be": fine(keep, name="n" * 255),
    "name with a star": broken(keep, r"has one of the characters \* \? \[", name="a*b"),
    "broken, and its name drives a terminal": broken(
        content(CONFIG, "{"), NO_JSON.format(""), name="bad\x1bc\r\nname"
    ),
}

OF_CONFIGURATION: dict[str, Animal] = {
    "unknown architecture": broken(configured(model_type="quantum"), NO_ARCHITECTURE.format("'quantum'")),
    "no architecture": broken(config_without("model_type"), "names no model_type"),
    "architecture is a path": broken(configured(model_type="../x"), NO_ARCHITECTURE.format("'[.]{2}/x'")),
    "architecture is a list": broken(configured(model_type=["llama"]), NO_ARCHITECTURE.format("")),
    "architecture of pictures": broken(configured(model_type="clip"), NO_ARCHITECTURE.format("'clip'")),
    "architecture of sounds": broken(configured(model_type="whisper"), NO_ARCHITECTURE.format("'whisper'")),
    "architecture is a helper": broken(
        configured(model_type="switch_layers"), NO_ARCHITECTURE.format("'switch")
    ),
    "head size 80": broken(configured(head_dim=80), "head size of 80 is not divisible by any group size"),
    "head size 0": broken(configured(head_dim=0), "no attention heads"),
    "negative layers": broken(configured(num_hidden_layers=-2), IMPOSSIBLE.format("-2")),
    "layers without end": broken(configured(num_hidden_layers=10**9), IMPOSSIBLE.format("1000000000")),
    "layers without end, elsewhere": broken(
        configured(num_hidden_layers=10**9, text_config={"num_hidden_layers": 2}),
        IMPOSSIBLE.format("1000000000"),
    ),
    "experts without end": broken(
        configured(num_local_experts=10**9), IMPOSSIBLE.format("num_local_experts")
    ),
    "many layers": broken(configured(num_hidden_layers=1000), UNFIT.format("1000 layers .*2 are there")),
    "hidden size 2^40": broken(
        configured(hidden_size=2**40), UNFIT.format("hidden size of 1099511627776 .* 64")
    ),
    "inner size 2^40": at_load(configured(intermediate_size=2**40), "need about .* TB here and", 3),
    "inner size 2^17": at_load(configured(intermediate_size=2**17), UNFIT.format("")),
    "vocabulary larger": broken(configured(vocab_size=301), UNFIT.format("vocabulary of 301 .* 300 rows")),
    "vocabulary of 2^50": broken(configured(vocab_size=2**50), UNFIT.format("vocabulary of")),
    "vocabulary smaller": at_load(configured(vocab_size=299), UNFIT.format("")),
    "context of 2^60": fine(configured(max_position_embeddings=2**60)),
    "configuration is a list": broken(content(CONFIG, "[]"), "config.json of .* is not an object"),
    "configuration is a number": broken(content(CONFIG, "7"), "config.json of .* is not an object"),
    "configuration is not a number": broken(content(CONFIG, "NaN"), "config.json of .* is not an object"),
    "configuration of 0 bytes": broken(content(CONFIG, ""), NO_JSON.format(r" \(it is empty\)")),
    "configuration is no JSON": broken(content(CONFIG, "{"), NO_JSON.format("")),
    "configuration is no text": broken(
        content(CONFIG, b"\xff\xfe{"), NO_JSON.format(r" \(it is not UTF-8\)")
    ),
    "configuration with a byte order mark": broken(
        marked,
        NO_JSON.format(r" \(it begins with a byte order mark\)"),
    ),
    "configuration is too deep": broken(content(CONFIG, '{"a":' * 30_000), NO_JSON.format("")),
    "configuration of 100 MB": broken(large(CONFIG, 100_000_000, b"{"), GIANT.format(CONFIG, "100 MB")),
    "configuration of many small lists": broken(
        content(CONFIG, b"[" + b"[]," * 2_600_000 + b"1]"), "config.json of .* has more parts than"
    ),
    "number too large": broken(
        config_with('"head_dim": 64', '"head_dim": 1e400'),
        IMPOSSIBLE.format("infinity"),
    ),
    "number of a million digits": broken(
        config_with('"head_dim": 64', f'"x": {"9" * 10**6}'),
        NO_JSON.format(""),
    ),
    "rotations are not a number": at_load(
        configured(rope_theta=float("nan")), "not-a-number|not a number|NaN", 1
    ),
    "no epsilon": at_load(config_without("rms_norm_eps"), "mlx-lm cannot build .*rms_norm_eps"),
}

ANIMALS = OF_WEIGHTS | OF_FILES | OF_CONFIGURATION
GOOD = "good"


def folder_of(home: Path, name: str) -> Path:
    """Where the animal of that name lives."""
    own = ANIMALS[name].name if name in ANIMALS else None
    return home / (own or name.replace(" ", "-").replace(",", "").replace("'", "").replace("^", ""))


def build(home: Path) -> Path:
    """All of it in ``home``, and the good model it is made of in ``home / GOOD``."""
    good = makers.model_folder(home / GOOD)
    for name, animal in ANIMALS.items():
        folder = folder_of(home, name)
        shutil.copytree(good, folder)
        animal.make(folder)
    return home


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
