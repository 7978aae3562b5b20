"""Segmentation metrics that match the reference tools; each evaluator has `update`, `merge` and `compute`.

Evaluators store one small entry per image, keyed by the sample's name. So an image that is added twice counts once, and
results merged from several processes equal those of a single process, in any order.
"""
