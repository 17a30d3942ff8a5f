"""How programs are compiled, fed and timed."""
