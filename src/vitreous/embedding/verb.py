"""The verb ``embed``. Importing this loads neither torch nor another room: the command line's help is quick."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitreous.embedding.result import Embedding


def embed(
    network: str | Path,
    data: str | Path,
    /,
    *,
    out: str | Path,
    patches: bool = False,
    pretrained: bool = False,
    batch: int = 32,
    quiet: bool = False,
) -> Embedding:
    """Write the features of every picture to a file, for a classifier, a search or a map of your own.

    A call that was stopped leaves OUT.partial; the same call goes on from there. Pictures that cannot be read are left
    out and listed.

    Parameters
    ----------
    network
        A run folder; published weights as hub:NAME or hub:NAME.TAG; or with --pretrained a name that `vitreous models`
        lists.
    data
        Folder of pictures with or without class folders, CSV file, or an embedded set (digits, shapes).
    out
        A new file: FILE.npz for numpy.load, or FILE.parquet (needs pyarrow: pip install 'vitreous[parquet]').
    patches
        Also the features of each patch or cell, from the last map of the network, as float16.
    pretrained
        Take the usual published weights of the named model.
    batch
        Pictures that go through the network at once.
    quiet
        No progress bar.
    """
    from vitreous.data.dataset import open_source
    from vitreous.embedding.extract import extract
    from vitreous.embedding.weights import open_network
    from vitreous.errors import UsageError
    from vitreous.training.log import counting

    if batch < 1:
        raise UsageError(f"--batch must be at least 1, not {batch}.")
    source = open_source(str(data))
    eye = open_network(str(network), pretrained)
    with counting("Looking at every picture", quiet=quiet) as progress:
        return extract(eye, source, str(data), Path(out), patches=patches, batch=batch, progress=progress)
