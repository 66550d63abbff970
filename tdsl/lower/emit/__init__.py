"""Kernel and binding → lines of Triton, each a syntax tree, with a slot at each fusion point."""
