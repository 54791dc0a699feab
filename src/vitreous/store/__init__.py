"""Files that are whole, or absent, or known to be damaged. Knows nothing of what they mean."""
