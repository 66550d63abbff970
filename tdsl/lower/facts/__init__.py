"""Questions about a kernel and a call, answered without a line of code: sizes, blocks, what fits, what is even."""
