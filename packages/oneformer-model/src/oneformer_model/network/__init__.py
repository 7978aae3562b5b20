"""The OneFormer network as plain PyTorch modules."""
