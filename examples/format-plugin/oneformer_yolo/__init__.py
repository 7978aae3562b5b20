"""The annotation format `yolo` for oneformer."""
