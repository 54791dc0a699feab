"""What a model is like, over a set of pictures: how often it is right, how far to believe it, what it costs.

Numbers in, numbers out: this room knows nothing of files, networks or pages, and needs no torch.
"""

from __future__ import annotations
