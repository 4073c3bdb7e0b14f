"""Reading in threads while the network computes."""

from __future__ import annotations

import collections
import concurrent.futures
from typing import Callable, Deque, Iterable, Iterator, TypeVar

Item = TypeVar("Item")


def read_ahead(readers: Iterable[Callable[[], Item]], threads: int) -> Iterator[Item]:
    """What the readers return, in order; up to `threads` of them run, or have run, ahead of the consumer.

    Args:
        readers: with one thread they are called one after the other, so that they may share a file's position.
    """
    waiting: Deque[concurrent.futures.Future[Item]] = collections.deque()
    executor = concurrent.futures.ThreadPoolExecutor(threads)
    try:
        for reader in readers:
            waiting.append(executor.submit(reader))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        executor.shutdown(wait=True)
