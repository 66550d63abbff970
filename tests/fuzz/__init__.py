"""The differential fuzzer: random templates in random programs, compiled, against the same in plain PyTorch."""
