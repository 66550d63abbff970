"""PyTorch's private surface: every name of it that is used, what a release lacks of it, and ways around its bugs."""
