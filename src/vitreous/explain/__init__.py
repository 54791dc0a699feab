"""Why this answer, for one picture, and what happens to it on the way. Knows networks and pictures, no training."""
