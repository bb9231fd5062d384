"""Configurations of tiny models, one of each kind that mlx-lm builds."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.utils import _get_classes, quantize_model

LAYERS = 4


def _plain(model_type: str, **more: Any) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": 128,
        "num_hidden_layers": LAYERS,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "rms_norm_eps": 1e-5,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
    } | more


def _latent(model_type: str, **more: Any) -> dict[str, Any]:
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4}
    sizes: dict[str, Any] = {
        "qk_nope_head_dim": 64,
        "qk_rope_head_dim": 32,
        "v_head_dim": 64,
        "kv_lora_rank": 32,
    }
    made = _plain(model_type, **heads, q_lora_rank=32, **(sizes | {"rope_scaling": None} | more))
    made.pop("head_dim")
    return made


EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
}
WINDOW = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"] * (LAYERS // 2)}
ALL_FULL = {"sliding_window": 16, "layer_types": ["full_attention"] * LAYERS}
HYBRID = {
    "attention_bias": False,
    "embedding_multiplier": 1.0,
    "attention_multiplier": 1.0,
    "logits_scaling": 1.0,
    "residual_multiplier": 1.0,
    "mamba_n_heads": 4,
    "mamba_d_head": 32,
    "mamba_proj_bias": False,
    "mamba_d_state": 16,
    "mamba_d_conv": 4,
    "mamba_n_groups": 1,
    "mamba_conv_bias": True,
    "shared_intermediate_size": 64,
}
LINEAR = {
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "linear_conv_kernel_dim": 4,
    "partial_rotary_factor": 0.5,
    "shared_expert_intermediate_size": 32,
    "full_attention_interval": 4,
}
STEADY = {
    "rope_theta": 10000.0,
    "rope_type": "default",
    "llama_4_scaling_beta": 0.1,
    "original_max_position_embeddings": 256,
}
CHUNKED = {
    "attention_bias": False,
    "attention_chunk_size": 16,
    "interleave_moe_layer_step": 1,
    "intermediate_size_mlp": 64,
    "num_experts_per_tok": 1,
    "num_local_experts": 2,
    "rope_scaling": None,
    "use_qk_norm": True,
}

# Every layer has a plain KV cache and heads that a group divides.
PLAIN: dict[str, dict[str, Any]] = {
    "llama": _plain("llama"),
    "llama all full": _plain("llama", **ALL_FULL),
    "mistral": _plain("mistral"),
    "qwen2": _plain("qwen2", sliding_window=16, use_sliding_window=False),
    "qwen3": _plain("qwen3", head_dim=64),
    "qwen3_moe": _plain("qwen3_moe", **EXPERTS),
    "phi3": _plain("phi3", sliding_window=16),
    "gemma2": _plain(
        "gemma2",
        attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0,
        query_pre_attn_scalar=32,
        sliding_window=16,
    ),
    "starcoder2": _plain("starcoder2", norm_epsilon=1e-5),
    "gpt2": {
        "model_type": "gpt2", "n_ctx": 64, "n_embd": 128, "n_head": 4, "n_layer": 2, "n_positions": 64,
        "layer_norm_epsilon": 1e-5, "vocab_size": 96,
    },
    "gpt_bigcode": {
        "model_type": "gpt_bigcode", "n_embd": 128, "n_head": 4, "n_layer": 2, "n_positions": 64,
        "n_inner": 64, "layer_norm_epsilon": 1e-5, "vocab_size": 96, "multi_query": True,
    },
    "openelm": {
        "model_type": "openelm", "head_dim": 32, "num_transformer_layers": 2, "model_dim": 128,
        "vocab_size": 96, "ffn_dim_divisor": 32, "num_query_heads": [4, 4], "num_kv_heads": [2, 2],
        "ffn_multipliers": [0.5, 0.5],
    },
    "deepseek_v2": _latent("deepseek_v2", moe_intermediate_size=32, rope_scaling={"factor": 1.0}),
    "minicpm3": _latent(
        "minicpm3",
        v_head_dim=None,
        dim_model_base=128,
        scale_depth=1.0,
        scale_emb=1.0,
        attention_bias=False,
        rope_scaling={"short_factor": [1.0] * 16, "long_factor": [1.0] * 16,
                      "original_max_position_embeddings": 256},
    ),
    "exaone4 small": _plain("exaone4", sliding_window=None, sliding_window_pattern=None, rope_scaling=None),
    "mistral3": {"model_type": "mistral3", "text_config": _plain("mistral")},
    "mistral3 of ministral3": {
        "model_type": "mistral3",
        "text_config": _plain("ministral3", rope_parameters=STEADY),
    },
    "granite attention only": _plain(
        "granitemoehybrid", **HYBRID, layer_types=["attention"] * LAYERS
    ),
}  # fmt: skip

# Some layers have another cache.
SPECIAL: dict[str, dict[str, Any]] = {
    "llama sliding": _plain("llama", **WINDOW),
    "gemma3_text": _plain("gemma3_text", sliding_window=16, sliding_window_pattern=2),
    "gemma3": {
        "model_type": "gemma3",
        "vocab_size": 96,
        "text_config": _plain("gemma3_text", sliding_window=16, sliding_window_pattern=2),
    },
    "gpt_oss": _plain("gpt_oss", num_local_experts=2, num_experts_per_tok=1, **WINDOW),
    "cohere2": _plain("cohere2", sliding_window=16, sliding_window_pattern=2),
    "cohere2 that says full": _plain("cohere2", sliding_window_pattern=2, **ALL_FULL),
    "exaone4 large": _plain("exaone4", sliding_window=16, sliding_window_pattern="LLLG", rope_scaling=None),
    "mamba": {
        "model_type": "mamba", "vocab_size": 96, "hidden_size": 64, "intermediate_size": 128, "state_size": 8,
        "num_hidden_layers": 2, "conv_kernel": 4, "use_bias": False, "use_conv_bias": True,
        "time_step_rank": 4,
    },
    "granite hybrid": _plain("granitemoehybrid", **HYBRID, layer_types=["mamba", "attention"] * 2),
    "qwen3_next": _plain("qwen3_next", **EXPERTS, **LINEAR),
    "qwen3_5_moe": {
        "model_type": "qwen3_5_moe",
        "text_config": _plain("qwen3_5_moe_text", **EXPERTS, **LINEAR),
    },
    "falcon_h1": _plain("falcon_h1", mamba_d_ssm=64, mamba_n_heads=2, mamba_d_head=32, mamba_d_state=8),
    "llama4": {"model_type": "llama4", "text_config": _plain("llama4_text", **CHUNKED)},
}  # fmt: skip

# Plain caches of compressed latents.
LATENT: dict[str, dict[str, Any]] = {
    "deepseek_v3": _latent("deepseek_v3", moe_intermediate_size=32),
    "kimi_k2": _latent("kimi_k2", moe_intermediate_size=32),
    "kimi_vl": {"model_type": "kimi_vl", "text_config": _latent("deepseek_v3", moe_intermediate_size=32)},
}


def stub_folder(path: Path, config: dict[str, Any]) -> Path:
    """A folder that looks like a model: the configuration, one real weight file, a tokenizer's name."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer.json").write_text("{}")
    arrays = {"model.embed_tokens.weight": mx.zeros((96, 8)), "model.norm.weight": mx.zeros((8,))}
    mx.save_safetensors(str(path / "model.safetensors"), arrays)
    return path


def quantized_folder(path: Path, model: Any, config: dict[str, Any], **how: Any) -> Path:
    """``model`` quantized in place and described by mlx-lm itself, in a folder."""
    model, described = quantize_model(model, copy.deepcopy(config), **how)
    stub_folder(path, described)
    mx.save_safetensors(str(path / "model.safetensors"), flat(model))
    return path


def flat(model: Any) -> dict[str, mx.array]:
    """The model's arrays by name."""
    pairs: Any = tree_flatten(model.parameters())
    return dict(pairs)


def build(config: dict[str, Any]) -> Any:
    """The model that mlx-lm itself builds from this configuration, with random weights."""
    config = copy.deepcopy(config)
    model_class, args_class = _get_classes(config)
    return model_class(args_class.from_dict(config))
