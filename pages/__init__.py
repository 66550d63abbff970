"""What the documents have that is not written by hand, and their site: see `__main__` and `site`."""
