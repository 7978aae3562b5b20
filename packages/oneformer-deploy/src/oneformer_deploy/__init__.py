"""Run exported OneFormer models without torch."""
