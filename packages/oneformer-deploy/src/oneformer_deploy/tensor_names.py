"""What an input or output of an exported model may be called: our name, then the reference implementation's."""

from __future__ import annotations

INPUTS = {"image": ("image", "images"), "task_tokens": ("task_tokens",)}
OUTPUTS = {"class_logits": ("class_logits", "pred_logits"), "mask_logits": ("mask_logits", "pred_masks")}
