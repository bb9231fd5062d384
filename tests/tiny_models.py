"""A tiny model of every architecture of the installed mlx-lm, as a whole folder that can be measured."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import mlx.core as mx
import mlx_lm.models

from mqf_tui.fidelity.model import architectures
from tests.makers import VOCAB, write_tokenizer
from tests.tiny_configs import (
    CHUNKED,
    EXPERTS,
    HYBRID,
    LATENT,
    LAYERS,
    LINEAR,
    PLAIN,
    SPECIAL,
    STEADY,
    WINDOW,
    _latent,
    _plain,
    build,
    flat,
)

VOCABULARIES = {"vocab_size", "num_vocab", "embedding_size", "vocab_size_per_layer_input"}


@dataclass(frozen=True)
class Tiny:
    """``example``: well-known models of this architecture. ``needs``: a package that mlx-lm looks for."""

    config: dict[str, Any]
    example: str
    needs: str = ""


def _own(model_type: str, **more: Any) -> dict[str, Any]:
    """Heads whose size is not the width over their number."""
    return _plain(model_type, head_dim=64, **more)


def _derived(model_type: str, **more: Any) -> dict[str, Any]:
    """Heads whose size the configuration does not name."""
    made = _plain(model_type, **more)
    made.pop("head_dim")
    return made


def _nested(model_type: str, text: dict[str, Any]) -> dict[str, Any]:
    return {"model_type": model_type, "vocab_size": 96, "text_config": text}


ROUTED = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "routed_scaling_factor": 1.0,
    "norm_topk_prob": True,
    "n_group": 1,
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
}
LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
BAILING = EXPERTS | {
    "num_shared_experts": 1,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "layer_group_size": 2,
    "group_norm_size": 1,
    "routed_scaling_factor": 1.0,
    "moe_shared_expert_intermediate_size": 32,
}
INDEXER = {"index_head_dim": 32, "index_n_heads": 4, "index_topk": 16}
PLAIN_BIAS = {"attention_bias": False, "mlp_bias": False}
ROPES = {
    "full_attention": {"rope_theta": 10000.0, "rope_type": "default", "partial_rotary_factor": 0.5},
    "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default", "partial_rotary_factor": 1.0},
}
KDA = {
    "linear_attn_config": {
        "kda_layers": [1, 3],
        "full_attn_layers": [2, 4],
        "num_heads": 4,
        "head_dim": 32,
        "short_conv_kernel_size": 4,
    }
}
KIMI = KDA | EXPERTS | {
    "num_experts_per_token": 2,
    "num_shared_experts": 1,
    "first_k_dense_replace": 1,
    "model_max_length": 256,
}  # fmt: skip
LONGCAT = {
    "attention_method": "MLA",
    "zero_expert_type": "identity",
    "ffn_hidden_size": 64,
    "moe_topk": 2,
    "expert_ffn_hidden_size": 32,
    "n_routed_experts": 4,
    "zero_expert_num": 2,
    "num_layers": 2,
    "routed_scaling_factor": 1.0,
    "mla_scale_q_lora": True,
    "mla_scale_kv_lora": True,
    "attention_bias": False,
}
LFM = {
    "norm_eps": 1e-5,
    "conv_bias": False,
    "conv_L_cache": 3,
    "block_dim": 128,
    "block_ff_dim": 64,
    "block_multiple_of": 32,
    "block_ffn_dim_multiplier": 1.0,
    "block_auto_adjust_ff_dim": False,
    "full_attn_idxs": [1, 3],
}
GRANITE = {
    "logits_scaling": 1.0,
    "attention_multiplier": 0.2,
    "embedding_multiplier": 1.0,
    "residual_multiplier": 1.0,
}
OLMO = {
    "d_model": 128,
    "n_layers": 2,
    "mlp_hidden_size": 64,
    "n_heads": 4,
    "vocab_size": 96,
    "embedding_size": 96,
}
GEMMA_3N = {
    "num_kv_shared_layers": 2,
    "vocab_size_per_layer_input": 96,
    "rope_local_base_freq": 10000.0,
    "final_logit_softcapping": 30.0,
    "activation_sparsity_pattern": [0.0] * LAYERS,
    "hidden_size_per_layer_input": 16,
    "altup_num_inputs": 2,
    "altup_coef_clip": 120.0,
    "altup_correct_scale": True,
    "altup_active_idx": 0,
    "laurel_rank": 16,
}
GEMMA_4 = {
    "global_head_dim": 128,
    "num_kv_shared_layers": 0,
    "vocab_size_per_layer_input": 96,
    "hidden_size_per_layer_input": 16,
    "sliding_window_pattern": 2,
    "sliding_window": 16,
}
MIMO = {
    "hybrid_layer_pattern": [1, 0, 1, 0],
    "moe_layer_freq": [0, 1, 1, 1],
    "add_swa_attention_sink_bias": True,
    "add_full_attention_sink_bias": False,
    "sliding_window_size": 16,
    "layernorm_epsilon": 1e-5,
    "swa_rope_theta": 10000.0,
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 4,
    "v_head_dim": 32,
    "swa_head_dim": 64,
    "swa_v_head_dim": 32,
    "partial_rotary_factor": 0.5,
}
SPARSE = {
    "dense_intermediate_size": 64,
    "shared_intermediate_size": 32,
    "rotary_dim": 32,
    "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
    "sparse_attention_config": {
        "sparse_num_index_heads": 2,
        "sparse_index_dim": 32,
        "sparse_block_size": 8,
        "sparse_topk_blocks": 4,
        "sparse_local_block": 1,
        "sparse_attention_freq": [0, 1, 1, 1],
    },
}
MAMBA_2 = {
    "mamba_num_heads": 4,
    "mamba_head_dim": 32,
    "mamba_proj_bias": False,
    "ssm_state_size": 16,
    "conv_kernel": 4,
    "n_groups": 1,
    "layer_norm_epsilon": 1e-5,
    "use_bias": False,
    "use_conv_bias": True,
    "hybrid_override_pattern": "M*-M",
    "time_step_limit": [0.0, 100.0],
}
DS41 = {
    "o_groups": 2,
    "o_lora_rank": 32,
    "q_lora_rank": 32,
    "qk_rope_head_dim": 32,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "sliding_window": 16,
    "compress_ratios": [0, 0, 0, 0],
    "hc_mult": 2,
    "index_n_heads": 2,
    "index_head_dim": 32,
    "index_topk": 8,
}
MUSE = {
    "post_norm_eps": 1e-6,
    "sliding_window": 16,
    "rope_parameters": {"rope_theta": 10000.0},
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "layer_rope_theta": [10000.0, 0.0] * 2,
    "final_logit_softcapping": 20.0,
    "output_multiplier": 0.2,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_hidden_size": 64,
    "moe_intermediate_size": 32,
}
NO_OP = {"attention": {"no_op": True}, "ffn": {"ffn_mult": 1.0}}
GROUPS = [{"attention": {"n_heads_in_group": n}, "ffn": {"ffn_mult": 1.0}} for n in (2, 4, 2)]
PRISM = {
    "schema_version": 1,
    "tensor_namespace": "mlx-lm-text",
    "quantization": {"bits": 2, "group_size": 128, "mode": "affine"},
    "modules": [{"path": "model.layers.0.mlp.gate_proj", "embedding": False, "dtype": "float16", "block": 0}],
}

TINY: dict[str, Tiny] = {
    "Klear": Tiny(_derived("Klear", **EXPERTS, n_shared_experts=1, attention_bias=False), "Klear-46B-A2.5B"),
    "afm7": Tiny(
        {
            "model_type": "afm7", "vocab_size": 96, "hidden_dim": 128, "num_layers": 4,
            "num_kv_reuse_layers": 2, "num_heads": 4, "num_kv_heads": 2,
        },
        "AFM 7B",
    ),
    "afmoe": Tiny(
        _own("afmoe", **EXPERTS, **WINDOW, num_shared_experts=1, num_dense_layers=1), "Trinity Mini"
    ),
    "apertus": Tiny(_derived("apertus", **PLAIN_BIAS, post_norm=False, qk_norm=True), "Apertus 8B"),
    "baichuan_m1": Tiny(
        _derived("baichuan_m1", sliding_window=16, sliding_window_layers=[0, 2], conv_window=2,
                 tie_word_embeddings=False),
        "Baichuan-M1-14B",
    ),
    "bailing_hybrid": Tiny(
        _latent("bailing_hybrid", **BAILING) | {"head_dim": 32}, "Ling-2.6-flash"
    ),
    "bailing_moe": Tiny(_derived("bailing_moe", **BAILING), "Ling-lite, Ling-mini-2.0"),
    "bailing_moe_linear": Tiny(_own("bailing_moe_linear", **BAILING), "Ring-mini-linear-2.0"),
    "bailing_moe_v3": Tiny(
        _latent("bailing_moe_v3", **BAILING) | {"head_dim": 32}, "Ling-3.0-flash, Ling-3.0-tiny"
    ),
    "bitnet": Tiny(_derived("bitnet"), "BitNet b1.58 2B4T"),
    "cohere": Tiny(_derived("cohere", layer_norm_eps=1e-5), "Command R"),
    "cohere2": Tiny(SPECIAL["cohere2"], "Command R7B, Aya"),
    "dbrx": Tiny(
        {
            "model_type": "dbrx", "vocab_size": 96, "d_model": 128, "n_layers": 2, "n_heads": 4,
            "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10000.0},
        },
        "DBRX",
    ),
    "deepseek": Tiny(_derived("deepseek", **ROUTED), "DeepSeek-MoE 16B"),
    "deepseek_v2": Tiny(PLAIN["deepseek_v2"], "DeepSeek-V2-Lite"),
    "deepseek_v3": Tiny(_latent("deepseek_v3", **ROUTED), "DeepSeek-V3, DeepSeek-R1, Kimi K2"),
    "deepseek_v32": Tiny(_latent("deepseek_v32", **ROUTED, **INDEXER), "DeepSeek-V3.2"),
    "deepseek_v41": Tiny(_own("deepseek_v41", **DS41), "DeepSeek-V4.1-Flash"),
    "dots1": Tiny(_own("dots1", **ROUTED), "dots.llm1"),
    "ernie4_5": Tiny(_own("ernie4_5", use_bias=False), "ERNIE 4.5 0.3B"),
    "ernie4_5_moe": Tiny(
        _own("ernie4_5_moe", use_bias=False, moe_num_experts=4, moe_k=2, moe_intermediate_size=32,
             moe_layer_start_index=1),
        "ERNIE 4.5 21B-A3B",
    ),
    "exaone": Tiny(
        _derived("exaone", num_layers=LAYERS, layer_norm_epsilon=1e-5), "EXAONE 3.5"
    ),
    "exaone4": Tiny(SPECIAL["exaone4 large"], "EXAONE 4.0"),
    "exaone_moe": Tiny(
        _own("exaone_moe", **EXPERTS, **WINDOW, num_shared_experts=1,
             is_moe_layer=[False, True, True, True]),
        "K-EXAONE",
    ),
    "falcon_h1": Tiny(SPECIAL["falcon_h1"], "Falcon-H1"),
    "gear": Tiny(
        _own("gear", sliding_window=16,
             layer_types=["conv_mixer", "sliding_attention", "conv_mixer", "full_attention"]),
        "Gear",
    ),
    "gemma": Tiny(_own("gemma"), "Gemma 2B, 7B"),
    "gemma2": Tiny(PLAIN["gemma2"], "Gemma 2"),
    "gemma3": Tiny(SPECIAL["gemma3"], "Gemma 3 4B and larger"),
    "gemma3_text": Tiny(SPECIAL["gemma3_text"], "Gemma 3 1B, 270M"),
    "gemma3n": Tiny(_nested("gemma3n", _own("gemma3n_text", **GEMMA_3N, **WINDOW)), "Gemma 3n E2B, E4B"),
    "gemma4": Tiny(_nested("gemma4", _own("gemma4_text", **GEMMA_4)), "Gemma 4"),
    "gemma4_text": Tiny(_own("gemma4_text", **GEMMA_4), "Gemma 4, text only"),
    "glm": Tiny(_own("glm"), "GLM-4 9B (2024)"),
    "glm4": Tiny(_own("glm4", attention_bias=False, partial_rotary_factor=0.5), "GLM-4 9B 0414"),
    "glm4_moe": Tiny(
        _own("glm4_moe", **ROUTED, attention_bias=False, partial_rotary_factor=0.5, use_qk_norm=True,
             rope_scaling=None),
        "GLM-4.5, GLM-4.6",
    ),
    "glm4_moe_lite": Tiny(_latent("glm4_moe_lite", **ROUTED), "GLM-4.7-Flash"),
    "glm_moe_dsa": Tiny(
        _latent("glm_moe_dsa", **ROUTED, **INDEXER, moe_layer_freq=1, attention_bias=False,
                rope_parameters={"rope_theta": 10000.0, "rope_type": "default"}),
        "GLM-5",
    ),
    "gpt2": Tiny(PLAIN["gpt2"], "GPT-2"),
    "gpt_bigcode": Tiny(PLAIN["gpt_bigcode"], "StarCoder"),
    "gpt_neox": Tiny(
        {
            "model_type": "gpt_neox", "max_position_embeddings": 256, "hidden_size": 128,
            "num_attention_heads": 4, "num_hidden_layers": 2, "layer_norm_eps": 1e-5, "vocab_size": 96,
            "rotary_emb_base": 10000, "rotary_pct": 0.25, "intermediate_size": 64,
        },
        "Pythia, GPT-NeoX",
    ),
    "gpt_oss": Tiny(SPECIAL["gpt_oss"], "gpt-oss-20b"),
    "gptj": Tiny(
        {
            "model_type": "gptj", "n_embd": 128, "vocab_size": 96, "n_positions": 256, "n_head": 4,
            "rotary_dim": 16, "n_layer": 2,
        },
        "GPT-J 6B",
    ),
    "granite": Tiny(_derived("granite", **GRANITE, **PLAIN_BIAS), "Granite 3"),
    "granitemoe": Tiny(_derived("granitemoe", **GRANITE, **LOCAL, attention_bias=False), "Granite 3 MoE"),
    "granitemoehybrid": Tiny(
        _derived("granitemoehybrid", **HYBRID, layer_types=["mamba", "attention"] * 2), "Granite 4.0 H"
    ),
    "helium": Tiny(_own("helium", **PLAIN_BIAS), "Helium 1"),
    "hunyuan": Tiny(
        _derived("hunyuan", attention_bias=False, moe_topk=2, num_experts=4, num_shared_expert=1,
                 use_mixed_mlp_moe=True, use_qk_norm=True, use_cla=True, cla_share_factor=2,
                 rope_scaling={"alpha": 1000.0, "factor": 1.0, "type": "dynamic"}),
        "Hunyuan-Large, Hunyuan-A13B",
    ),
    "hunyuan_v1_dense": Tiny(_own("hunyuan_v1_dense"), "Hunyuan 7B"),
    "internlm2": Tiny(_derived("internlm2"), "InternLM2"),
    "internlm3": Tiny(_derived("internlm3"), "InternLM3"),
    "iquestloopcoder": Tiny(_own("iquestloopcoder", loop_num=2, loop_window_size=16), "IQuest-Coder Loop"),
    "jamba": Tiny(
        _derived("jamba", **EXPERTS, attn_layer_offset=1, attn_layer_period=2, expert_layer_offset=1,
                 expert_layer_period=2, mamba_d_conv=4, mamba_d_state=8, mamba_expand=2),
        "Jamba",
    ),
    "kimi_k25": Tiny(_nested("kimi_k25", _latent("deepseek_v3", **ROUTED)), "Kimi K2.5"),
    "kimi_k3": Tiny(_nested("kimi_k3", _latent("kimi_linear", **KIMI)), "Kimi K3"),
    "kimi_linear": Tiny(_latent("kimi_linear", **KIMI) | {"head_dim": 32}, "Kimi-Linear-48B-A3B"),
    "kimi_vl": Tiny(_nested("kimi_vl", _latent("deepseek_v3", **ROUTED)), "Kimi-VL-A3B"),
    "laguna": Tiny(
        _own("laguna", **EXPERTS, **WINDOW, shared_expert_intermediate_size=32, gating=True,
             rope_parameters=ROPES),
        "Laguna XS, Laguna S",
    ),
    "lfm2": Tiny(_derived("lfm2", **LFM), "LFM2 1.2B"),
    "lfm2-vl": Tiny(_nested("lfm2-vl", _derived("lfm2", **LFM)), "LFM2-VL"),
    "lfm2_moe": Tiny(
        _derived("lfm2_moe", **EXPERTS, **LFM, use_expert_bias=True, num_dense_layers=1), "LFM2-8B-A1B"
    ),
    "lille-130m": Tiny(
        {
            "model_type": "lille-130m", "block_size": 256, "layer_norm_eps": 1e-5, "n_embd": 128, "n_head": 4,
            "n_kv_heads": 2, "n_layer": 2, "rope_theta": 10000.0, "vocab_size": 96,
        },
        "Lille 130M",
    ),
    "llama": Tiny(_derived("llama"), "Llama 2 and 3, Mistral 7B, SmolLM2"),
    "llama4": Tiny(_nested("llama4", _own("llama4_text", **CHUNKED)), "Llama 4 Scout, Maverick"),
    "llama4_text": Tiny(
        _own("llama4_text", intermediate_size_mlp=64, no_rope_layers=[1, 1, 1, 0], use_qk_norm=True),
        "MobileLLM-R1",
    ),
    "longcat_flash": Tiny(_latent("longcat_flash", **LONGCAT), "LongCat-Flash"),
    "longcat_flash_ngram": Tiny(
        _latent("longcat_flash_ngram", **LONGCAT, ngram_vocab_size_ratio=2), "LongCat-Flash-Lite"
    ),
    "mamba": Tiny(SPECIAL["mamba"], "Mamba 2.8B, Falcon-Mamba"),
    "mamba2": Tiny(
        {
            "model_type": "mamba2", "vocab_size": 96, "hidden_size": 64, "intermediate_size": 128,
            "num_heads": 4, "head_dim": 32, "state_size": 16, "num_hidden_layers": 2, "conv_kernel": 4,
            "layer_norm_epsilon": 1e-5, "n_groups": 1, "use_bias": False, "use_conv_bias": True,
            "tie_word_embeddings": True, "time_step_limit": [0.0, 100.0], "time_step_rank": "auto",
        },
        "Mamba-2, Codestral Mamba",
    ),
    "mellum": Tiny(_own("mellum", **EXPERTS, **WINDOW, rope_parameters=ROPES), "Mellum 2"),
    "mimo": Tiny(_derived("mimo"), "MiMo-7B"),
    "mimo_v2_flash": Tiny(_own("mimo_v2_flash", **(ROUTED | MIMO)), "MiMo-V2-Flash"),
    "minicpm": Tiny(
        _derived("minicpm", tie_word_embeddings=False, dim_model_base=128, scale_depth=1.4, scale_emb=12.0),
        "MiniCPM 2B",
    ),
    "minicpm3": Tiny(PLAIN["minicpm3"], "MiniCPM3-4B"),
    "minimax": Tiny(
        _own("minimax", **LOCAL, shared_intermediate_size=0, rotary_dim=32), "MiniMax-M2"
    ),
    "minimax_m3_vl": Tiny(_nested("minimax_m3_vl", _own("minimax_m3", **LOCAL, **SPARSE)), "MiniMax-M3"),
    "ministral3": Tiny(_own("ministral3", rope_parameters=STEADY), "Ministral 3, text only"),
    "mistral3": Tiny(_nested("mistral3", _own("mistral")), "Mistral Small 3.1, Ministral 3"),
    "mistral4": Tiny(_latent("mistral4", **ROUTED, rope_parameters=STEADY), "Mistral Small 4"),
    "mixtral": Tiny(_derived("mixtral", **LOCAL), "Mixtral 8x7B"),
    "muse_glimmer": Tiny(_own("muse_glimmer", sliding_window=16), "Muse Glimmer 30B"),
    "muse_spark": Tiny(_nested("muse_spark", _own("muse_spark_text", **MUSE)), "Muse Spark Open"),
    "nanbeige": Tiny(_own("nanbeige", num_loops=2), "Nanbeige"),
    "nanochat": Tiny(_derived("nanochat"), "nanochat"),
    "nemotron": Tiny(_own("nemotron", hidden_act="relu2", norm_eps=1e-5), "Nemotron-4, Minitron"),
    "nemotron-nas": Tiny(
        _derived("nemotron-nas", block_configs=[*GROUPS, NO_OP]), "Llama-3.3-Nemotron-Super-49B"
    ),
    "nemotron_h": Tiny(_own("nemotron_h", **MAMBA_2, **PLAIN_BIAS), "Nemotron-H, Nemotron Nano 2"),
    "olmo": Tiny({"model_type": "olmo", **OLMO}, "OLMo 1B, 7B", "hf_olmo"),
    "olmo2": Tiny(_derived("olmo2"), "OLMo 2"),
    "olmo3": Tiny(_derived("olmo3", **WINDOW), "OLMo 3"),
    "olmo_hybrid": Tiny(
        _derived("olmo_hybrid", **LINEAR, linear_allow_neg_eigval=True, attention_bias=False),
        "OLMo Hybrid",
    ),
    "olmoe": Tiny(_derived("olmoe", **EXPERTS), "OLMoE-1B-7B"),
    "openelm": Tiny(PLAIN["openelm"], "OpenELM"),
    "phi": Tiny(_derived("phi", layer_norm_eps=1e-5, partial_rotary_factor=0.5), "Phi-2"),
    "phi3": Tiny(_derived("phi3"), "Phi-3 mini, Phi-4"),
    "phi3small": Tiny(
        _derived("phi3small", vocab_size=100352, hidden_size=64, num_attention_heads=2, num_key_value_heads=1,
                 dense_attention_every_n_layers=2, ff_intermediate_size=64,
                 gegelu_limit=20.0, layer_norm_epsilon=1e-5, blocksparse_block_size=64),
        "Phi-3 small",
    ),
    "phimoe": Tiny(
        _derived("phimoe", **LOCAL, rope_scaling={
            "short_factor": [1.0] * 16, "long_factor": [1.0] * 16, "short_mscale": 1.0, "long_mscale": 1.0,
            "original_max_position_embeddings": 128, "type": "longrope"}),
        "Phi-3.5-MoE",
    ),
    "phixtral": Tiny(
        {
            "model_type": "phixtral", "num_vocab": 96, "model_dim": 128, "num_heads": 4, "num_layers": 2,
            "rotary_dim": 16, **LOCAL,
        },
        "Phixtral",
    ),
    "pixtral": Tiny(_nested("pixtral", _own("llama")), "Pixtral 12B"),
    "plamo": Tiny(_derived("plamo", n_shared_head=2), "PLaMo 13B"),
    "plamo2": Tiny(
        _derived("plamo2", hidden_size_per_head=32, mamba_num_heads=4, mamba_d_state=16, mamba_step=2),
        "PLaMo 2",
    ),
    "plamo3": Tiny(_own("plamo3", sliding_window=16, sliding_window_pattern=2), "PLaMo 3"),
    "prism_hadamard_qwen35": Tiny(
        _nested("prism_hadamard_qwen35", _own("qwen3_5_text", **LINEAR)) | PRISM, "Hadamard packs of Qwen3.5"
    ),
    "qwen": Tiny(
        {
            "model_type": "qwen", "hidden_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2,
            "kv_channels": 32, "intermediate_size": 64, "vocab_size": 96, "num_key_value_heads": 4,
        },
        "Qwen 7B",
    ),
    "qwen2": Tiny(_derived("qwen2"), "Qwen2.5"),
    "qwen2_moe": Tiny(_derived("qwen2_moe", **EXPERTS, shared_expert_intermediate_size=32), "Qwen1.5-MoE"),
    "qwen2_vl": Tiny(_nested("qwen2_vl", _derived("qwen2")), "Qwen2-VL, Qwen2.5-VL"),
    "qwen3": Tiny(_own("qwen3"), "Qwen3 0.6B to 32B"),
    "qwen3_5": Tiny(_nested("qwen3_5", _own("qwen3_5_text", **LINEAR)), "Qwen3.5"),
    "qwen3_5_moe": Tiny(SPECIAL["qwen3_5_moe"], "Qwen3.5 MoE"),
    "qwen3_moe": Tiny(PLAIN["qwen3_moe"], "Qwen3-30B-A3B"),
    "qwen3_next": Tiny(SPECIAL["qwen3_next"], "Qwen3-Next-80B-A3B"),
    "qwen3_vl": Tiny(_nested("qwen3_vl", _own("qwen3")), "Qwen3-VL"),
    "qwen3_vl_moe": Tiny(
        _nested("qwen3_vl_moe", _own("qwen3_moe", **EXPERTS, tie_word_embeddings=False)), "Qwen3-VL-30B-A3B"
    ),
    "recurrent_gemma": Tiny(
        _derived("recurrent_gemma", attention_bias=False, conv1d_width=4, logits_soft_cap=30.0,
                 attention_window_size=16, num_key_value_heads=1,
                 block_types=["recurrent", "recurrent", "attention"]),
        "RecurrentGemma",
    ),
    "rwkv7": Tiny(
        {
            "model_type": "rwkv7", "vocab_size": 96, "hidden_size": 128, "intermediate_size": 64,
            "norm_eps": 1e-5, "head_dim": 32, "num_hidden_layers": 2, "a_low_rank_dim": 16,
            "v_low_rank_dim": 16, "gate_low_rank_dim": 16, "decay_low_rank_dim": 16,
        },
        "RWKV-7 Goose",
    ),
    "seed_oss": Tiny(_own("seed_oss"), "Seed-OSS-36B"),
    "smollm3": Tiny(_derived("smollm3"), "SmolLM3-3B"),
    "solar_open": Tiny(_own("solar_open", **ROUTED, partial_rotary_factor=1.0), "Solar Open 100B"),
    "spark2_5": Tiny(_own("spark2_5", **WINDOW, rope_parameters=ROPES), "Spark 2.5"),
    "stablelm": Tiny(
        _derived("stablelm", use_qkv_bias=False, partial_rotary_factor=0.25, layer_norm_eps=1e-5),
        "StableLM 2",
    ),
    "starcoder2": Tiny(_derived("starcoder2", norm_epsilon=1e-5), "StarCoder2"),
    "step3p5": Tiny(
        _own("step3p5", **WINDOW, num_attention_groups=2, moe_num_experts=4, moe_top_k=2,
             moe_intermediate_size=32, share_expert_dim=32, moe_layers_enum="1,2,3",
             attention_other_setting={"num_attention_heads": 6, "num_attention_groups": 2}),
        "Step-3.5-Flash",
    ),
    "talkie": Tiny(_own("talkie"), "Talkie"),
    "telechat3": Tiny(_own("telechat3"), "TeleChat3"),
    "youtu_llm": Tiny(_latent("youtu_llm"), "Youtu-LLM-2B"),
}  # fmt: skip


def _varied(name: str, *without: str, **more: Any) -> dict[str, Any]:
    config = TINY[name].config
    if "text_config" in config:
        text = {k: v for k, v in config["text_config"].items() if k not in without}
        return config | {"text_config": text | more}
    return {key: value for key, value in config.items() if key not in without} | more


# The same architectures with configurations that say less, or say it otherwise.
VARIED: dict[str, dict[str, Any]] = {
    "gemma3, heads not named": _varied(
        "gemma3",
        *("head_dim", "num_attention_heads", "num_key_value_heads", "sliding_window_pattern"),
        num_hidden_layers=7,
    ),
    "gpt_oss, types not named": _varied("gpt_oss", "layer_types"),
    "step3p5, types not named": _varied("step3p5", "layer_types"),
    "olmo3, types not named": _varied("olmo3", "layer_types"),
    "spark2_5, types not named": _varied("spark2_5", "layer_types"),
    "laguna, types not named": _varied("laguna", "layer_types"),
    "llama, types not named": _varied("llama", sliding_window=16),
    "gemma4, types named": _varied("gemma4", **WINDOW),
    "gemma4, the last layers shared": _varied("gemma4", num_kv_shared_layers=2),
    "gemma4, keys as values": _varied("gemma4", attention_k_eq_v=True, num_global_key_value_heads=1),
    "nemotron_h, blocks named": _varied(
        "nemotron_h", "hybrid_override_pattern", layers_block_type=["mamba", "mlp", "attention", "mamba"]
    ),
    "jamba, blocks named": _varied("jamba", layers_block_type=["attention", "mamba", "mamba", "attention"]),
    "lfm2, types named": _varied("lfm2", "full_attn_idxs", layer_types=["conv", "full_attention"] * 2),
    "bailing, no whole group": _varied("bailing_moe_linear", layer_group_size=3),
    "qwen3_next, each third": _varied("qwen3_next", full_attention_interval=3),
    "plamo2, each third": _varied("plamo2", mamba_step=3),
    "nanbeige, loops by their losses": _varied("nanbeige", loop_loss_weights=[0.1, 0.2]),
    "starcoder2, heads alike": _varied("starcoder2", num_key_value_heads=4),
    "minimax_m3_vl, not sparse": _varied("minimax_m3_vl", "sparse_attention_config"),
    "mistral3 of ministral3": PLAIN["mistral3 of ministral3"],
    "kimi_k2": LATENT["kimi_k2"],
}


def modules() -> list[str]:
    """Every architecture of the installed mlx-lm: its modules that have a model."""
    names = sorted(path.stem for path in Path(mlx_lm.models.__path__[0]).glob("*.py"))
    return [name for name in names if _is_architecture(name)]


def _is_architecture(name: str) -> bool:
    module = _module(name)
    return module is None or (hasattr(module, "Model") and hasattr(module, "ModelArgs"))


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(f"mlx_lm.models.{name}")
    except SystemExit:  # OLMo's, where a package of its own is missing
        return None


def with_vocabulary(config: Any, size: int = VOCAB) -> Any:
    """The configuration with a vocabulary of this size, wherever it says one."""
    if isinstance(config, dict):
        return {k: max(size, v) if k in VOCABULARIES else with_vocabulary(v, size) for k, v in config.items()}
    return config


def config_of(name: str) -> dict[str, Any]:
    """The configuration as a model of this architecture has it: the keys that mlx-lm reads, no others."""
    config = with_vocabulary(TINY[name].config)
    read = _read_by(architectures.family(config))
    told = {key: value for key, value in config.items() if key in read}
    if "text_config" in told:
        told["text_config"] = {key: value for key, value in told["text_config"].items() if key in read}
    return told


def _read_by(names: tuple[str, ...]) -> set[str]:
    found = {"model_type", "text_config", "vocab_size"}
    for name in names:
        module = _module(name)
        for kind in vars(module).values() if module else ():
            if isinstance(kind, type) and kind.__name__.endswith(("Args", "Config")):
                found |= set(inspect.signature(kind).parameters)
    return found


def made(name: str) -> Any:
    """The model with random weights, none of them zero, sharp enough for a coarse cache to show."""
    mx.random.seed(5)
    model = build(config_of(name))
    arrays = {path: _filled(path, array) for path, array in flat(model).items()}
    model.load_weights(list(arrays.items()))
    return model


def _filled(path: str, array: mx.array) -> mx.array:
    if not mx.issubdtype(array.dtype, mx.floating):
        return array
    if array.ndim > 1 and not mx.any(array).item():
        return mx.random.normal(array.shape).astype(array.dtype) * array.shape[-1] ** -0.5
    return array * 3 if path.endswith(("q_proj.weight", "k_proj.weight")) else array


@functools.cache
def _tokenizer(home: Path) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    write_tokenizer(home)
    return home


def folder_of(name: str, home: Path) -> Path:
    """A whole model folder of this architecture under ``home``."""
    folder = home / name
    shutil.copytree(_tokenizer(home / "tokenizer"), folder)
    return folder_with(config_of(name), made(name), folder)


def folder_with(config: dict[str, Any], model: Any, folder: Path) -> Path:
    """Configuration and weights of ``model`` in a folder; where it has no tokenizer, an empty one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if not (folder / "tokenizer.json").exists():
        (folder / "tokenizer.json").write_text("{}")
    mx.save_safetensors(str(folder / "model.safetensors"), flat(model), metadata={"format": "mlx"})
    return folder
