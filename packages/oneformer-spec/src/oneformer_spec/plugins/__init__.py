"""What is installed: plugins found through entry points, their declarations, and what they name."""
