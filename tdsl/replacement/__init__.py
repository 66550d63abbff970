"""Templates in the place of what they mean, in models that do not call them."""
