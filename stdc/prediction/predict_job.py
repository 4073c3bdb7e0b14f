"""A prediction job: from pictures to label ids and color pictures."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Callable, Iterator, Optional, Sequence

from stdc.data import transforms
from stdc.data.dataset import read_image
from stdc.data.entries import Entry
from stdc.errors import InputError
from stdc.prediction.prediction_files import Wanted, write_prediction
from stdc.prediction.read_ahead import read_ahead
from stdc.prediction.sources import Picture, Source
from stdc.prediction.trained import Trained
from stdc.progress import Log, Progress

#: Pictures decoded ahead of the network.
_PICTURES_AHEAD = 2


def source_of_frames(entries: Sequence[Entry]) -> Source:
    """Frames of a dataset as pictures named after them."""

    def read(entry: Entry) -> Optional[Picture]:
        return Picture(entry.frame, read_image(entry.image, entry.image_sha256))

    readers: Iterator[Callable[[], Optional[Picture]]] = (functools.partial(read, entry) for entry in entries)
    return Source(readers, len(entries), in_order=False)


def write_predictions(trained: Trained, source: Source, folder: Path, *, wanted: Wanted, log: Log) -> int:
    """Predict every picture and write the files of `stdc.prediction.prediction_files`; sizes stay as they are.

    Returns:
        How many were predicted.
    Raises:
        InputError: a picture is unreadable, or nothing was to be read.
    """
    progress = Progress("images", source.count)
    done = 0
    for picture in read_ahead(source.readers, 1 if source.in_order else _PICTURES_AHEAD):
        if picture is None:
            log(f"the video ends after {done} frames of {source.count} that it says to have")
            break
        pixels = transforms.normalize(picture.image, trained.mean, trained.std)
        (train_ids,) = trained.predictor.predict(pixels, [trained.protocol])
        write_prediction(folder, picture.name, picture.image, trained.predictor.to_host(train_ids), wanted)
        done += 1
        progress.step()
    progress.finish()
    if not done:
        raise InputError("nothing to predict")
    return done
