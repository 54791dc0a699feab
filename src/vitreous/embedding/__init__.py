"""Features of pictures, from a network as it is."""
