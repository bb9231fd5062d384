"""One KV-cache setting measured the textbook way, for ``sweep.py`` to compare with.

    python benchmarks/textbook.py FOLDER BITS GROUP [CHUNKS] [LENGTH]

mlx-lm's own caches and attention in float32, over the fast BLAS; for each chunk two passes over the whole of
it, log-softmax of both, KL in MLX. Prints mean KL and the flip rate as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mqf_tui.fidelity import device as devices


def main() -> None:
    folder = sys.argv[1]
    bits, group, chunks, length = (*map(int, sys.argv[2:]), 2, 512)[:4]
    devices.load_blas()
    import mlx.core as mx
    from mlx_lm.models.cache import QuantizedKVCache, make_prompt_cache
    from mlx_lm.utils import load_model
    from transformers import AutoTokenizer

    from mqf_tui.fidelity.text.chunking import make_chunks
    from mqf_tui.fidelity.text.corpora import read_corpus

    model = load_model(Path(folder))[0]
    model.set_dtype(mx.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = make_chunks(read_corpus("builtin"), tokenizer, length, chunks, tokenizer_id="").tokens
    kl, flips = [], []
    for chunk in tokens:
        ids = mx.array(chunk[:-1])[None]
        full = model(ids, cache=make_prompt_cache(model))[0]
        cache = [QuantizedKVCache(group_size=group, bits=bits) for _ in model.layers]
        quant = model(ids, cache=cache)[0]
        log_p = full - mx.logsumexp(full, axis=-1, keepdims=True)
        log_q = quant - mx.logsumexp(quant, axis=-1, keepdims=True)
        kl.append(mx.sum(mx.exp(log_p) * (log_p - log_q), axis=-1))
        flips.append(mx.argmax(full, axis=-1) != mx.argmax(quant, axis=-1))
        mx.eval(kl[-1], flips[-1])
    print(json.dumps({"kl": mx.concatenate(kl).mean().item(), "flips": mx.concatenate(flips).mean().item()}))


if __name__ == "__main__":
    main()
