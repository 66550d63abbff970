"""Changes of a graph's nodes before or while they are scheduled."""
