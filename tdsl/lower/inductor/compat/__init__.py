"""PyTorch's private surface: every name of it that is used here."""
