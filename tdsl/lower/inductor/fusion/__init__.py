"""What may be fused with a call, where it goes, what it costs, and why it was not."""
