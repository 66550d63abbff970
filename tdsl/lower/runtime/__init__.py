"""What the module of a compiled kernel may import, and nothing else: other processes and saved packages do."""
