"""Training of OneFormer: losses, matcher, schedules, Lightning module, checkpoints and resume."""
