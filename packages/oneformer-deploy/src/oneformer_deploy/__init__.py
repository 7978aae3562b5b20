"""Run exported OneFormer models on hosts without torch."""
