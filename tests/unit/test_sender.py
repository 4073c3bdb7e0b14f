"""Arrays on their way to the device. On a device that is not the processor: tests/devices/test_plugin.py."""

from __future__ import annotations

import numpy as np
import pytest

paddle = pytest.importorskip("paddle")

from stdc.machine.sender import Sender  # noqa: E402


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_was_sent_stays_what_it_was_when_its_memory_is_written_again(dtype: type) -> None:
    """The loader writes the next batches over it."""
    send = Sender()
    array = np.arange(24, dtype=dtype).reshape(2, 3, 4)
    sent = [send(array)]
    for fill in range(1, 8):
        array[:] = fill
        sent.append(send(array))
    assert sent[0].numpy().tolist() == np.arange(24).reshape(2, 3, 4).tolist()
    assert [int(tensor.astype("int64").max().numpy().ravel()[0]) for tensor in sent[1:]] == list(range(1, 8))
    assert send.kind == "host" and sent[0].numpy().dtype == dtype
