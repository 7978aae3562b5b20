"""The names that inputs and outputs of an exported model may have: ours first, then the reference implementation's."""

from __future__ import annotations

INPUTS = {"image": ("image", "images"), "task_tokens": ("task_tokens",)}
OUTPUTS = {"class_logits": ("class_logits", "pred_logits"), "mask_logits": ("mask_logits", "pred_masks")}
