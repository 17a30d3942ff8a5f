"""Models with trained weights, and images as their input."""
