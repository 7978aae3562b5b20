"""Scores that equal those of the reference tools; each evaluator has update, merge and compute.

Evaluators keep one small entry per image, by the sample's name. So an image that comes twice counts once, and shards
merge to exactly what one process finds, whatever the order.
"""
