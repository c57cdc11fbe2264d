"""Runs in the environment of scripts/test-peft: transformers and PEFT, without anything of ours or MLX.

peft_logits.py new KIND FOLDER                    make a small random model of a kind
peft_logits.py logits MODEL ADAPTER IDS OUT       logits for each list of token ids, in float64
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 258,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "pad_token_id": None,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "initializer_range": 0.2,
}
KINDS = {
    "llama": ("Llama", {}),
    "mistral": ("Mistral", {}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {}),
    "gemma": ("Gemma", {"tie_word_embeddings": True}),
    "gemma2": ("Gemma2", {"query_pre_attn_scalar": 16, "sliding_window": 128, "tie_word_embeddings": True}),
    "gemma3_text": (
        "Gemma3Text",
        {"query_pre_attn_scalar": 16, "sliding_window": 128, "tie_word_embeddings": True, "num_hidden_layers": 7},
    ),
    "phi3": ("Phi3", {"rope_scaling": None}),
    "smollm3": ("SmolLM3", {"no_rope_layers": [1, 1, 1]}),
    "olmo2": ("Olmo2", {}),
    "granite": (
        "Granite",
        {"logits_scaling": 2.0, "attention_multiplier": 0.25, "embedding_multiplier": 1.5, "residual_multiplier": 0.5},
    ),
}


def new(kind: str, folder: str) -> None:
    name, more = KINDS[kind]
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **more})
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    # As published models have it: not every model of mlx-lm reads transformers 5's rope_parameters.
    written = Path(folder) / "config.json"
    content = json.loads(written.read_text())
    rope = content["rope_parameters"]
    if "rope_theta" in rope:  # else there is one for each kind of layer
        written.write_text(json.dumps({**content, "rope_theta": rope["rope_theta"]}))


def logits(model: str, adapter: str, ids: str, out: str) -> None:
    import peft

    base = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64, attn_implementation="eager")
    if base.config.model_type == "gemma":
        # mlx-lm has the exact GELU in the first Gemma, transformers the approximation: not what is tested here.
        for layer in base.model.layers:
            layer.mlp.act_fn = torch.nn.GELU()
    tuned = peft.PeftModel.from_pretrained(base, adapter).eval().to(torch.float64)
    # Where the models go up to float32 on purpose, as for norms and softmax, they would now go down to it.
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    found = {}
    with torch.no_grad():
        for i, tokens in enumerate(json.loads(Path(ids).read_text())):
            found[f"base{i}"] = _plain(tuned, tokens)
            found[f"tuned{i}"] = tuned(torch.tensor([tokens])).logits[0].numpy()
    np.savez(out, **found)


def _plain(tuned, tokens):
    with tuned.disable_adapter():
        return tuned(torch.tensor([tokens])).logits[0].numpy()


if __name__ == "__main__":
    {"new": new, "logits": logits}[sys.argv[1]](*sys.argv[2:])
