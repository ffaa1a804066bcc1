"""Writes a llama of two small layers with random weights as GGUF: python model.py FILE.

It knows nothing. What it is for: a real server loads it, samples it within the grammar of
a JSON schema, streams it and counts its tokens, in milliseconds on any machine.
"""

import sys

import gguf
import numpy as np

WIDTH, HEADS, LAYERS, HIDDEN, CONTEXT = 64, 4, 2, 128, 4096

tokens = [b"<unk>", b"<s>", b"</s>"] + [b"<0x%02X>" % b for b in range(256)] + [bytes([b]) for b in range(33, 127)] + ["\u2581".encode()]
types = [2, 3, 3] + [6] * 256 + [1] * 95
scores = [0.0] * 259 + [-float(i) for i in range(95)]

random = np.random.default_rng(7)


def weights(*shape):
    return (random.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)


w = gguf.GGUFWriter(sys.argv[1], "llama")
w.add_name("random")
w.add_context_length(CONTEXT)
w.add_embedding_length(WIDTH)
w.add_block_count(LAYERS)
w.add_feed_forward_length(HIDDEN)
w.add_head_count(HEADS)
w.add_head_count_kv(HEADS)
w.add_layer_norm_rms_eps(1e-5)
w.add_rope_dimension_count(WIDTH // HEADS)
w.add_vocab_size(len(tokens))
w.add_file_type(0)
w.add_tokenizer_model("llama")
w.add_token_list(tokens)
w.add_token_scores(scores)
w.add_token_types(types)
w.add_bos_token_id(1)
w.add_eos_token_id(2)
w.add_unk_token_id(0)
w.add_tensor("token_embd.weight", weights(len(tokens), WIDTH))
for i in range(LAYERS):
    b = f"blk.{i}."
    w.add_tensor(b + "attn_norm.weight", np.ones(WIDTH, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        w.add_tensor(b + name + ".weight", weights(WIDTH, WIDTH))
    w.add_tensor(b + "ffn_norm.weight", np.ones(WIDTH, np.float32))
    w.add_tensor(b + "ffn_gate.weight", weights(HIDDEN, WIDTH))
    w.add_tensor(b + "ffn_up.weight", weights(HIDDEN, WIDTH))
    w.add_tensor(b + "ffn_down.weight", weights(WIDTH, HIDDEN))
w.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
w.add_tensor("output.weight", weights(len(tokens), WIDTH))
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
