"""Downloads with one deadline for everything, from the connection to the last byte.

`urllib` restarts its timeout with every byte that arrives, so a server that drips its header holds it for ever. Here
each read waits for what is left of the whole time. Redirects stay within their scheme. What a server says is shown
through `stdc.text`, and addresses without what may be secret in them.
"""

from __future__ import annotations

import errno
import http.client
import io
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

from stdc.errors import InputError, shortened
from stdc.weights.sources import shown_source

_CHUNK_BYTES = 1 << 20


class Limits(NamedTuple):
    """How long a download may take, and how large it may be.

    Args:
        connect_s: until an address of the host answers.
        idle_s: without a byte.
        whole_s: from the first attempt to connect to the last byte.
        most_bytes: of the file; this network's weights have at most 60 MB.
    """

    connect_s: float = 10.0
    idle_s: float = 60.0
    whole_s: float = 3600.0
    most_bytes: int = 512 << 20


LIMITS = Limits()


class _Deadline:
    """The moment at which a download is given up."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._end = time.monotonic() + limits.whole_s

    def wait_s(self, longest_s: float) -> float:
        """How long the next step may wait.

        Raises:
            TimeoutError: no time is left.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"not done after {self._limits.whole_s:.0f} s")
        return min(left, longest_s)


class _TimedSocket:
    """A socket whose reads and writes end at the deadline."""

    def __init__(self, connection: Any, deadline: _Deadline, idle_s: float) -> None:
        self._connection, self._deadline, self._idle_s = connection, deadline, idle_s

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        return io.BufferedReader(_TimedReads(self._connection, self._deadline, self._idle_s))

    def sendall(self, data: Any) -> None:
        self._connection.settimeout(self._deadline.wait_s(self._idle_s))
        self._connection.sendall(data)

    def close(self) -> None:
        self._connection.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class _TimedReads(io.RawIOBase):
    def __init__(self, connection: Any, deadline: _Deadline, idle_s: float) -> None:
        self._connection, self._deadline, self._idle_s = connection, deadline, idle_s
        # The caller may still read from the answer, so the connection is closed by the caller.
        self._file = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Optional[int]:
        self._connection.settimeout(self._deadline.wait_s(self._idle_s))
        count: Optional[int] = self._file.readinto(buffer)
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _connection_class(
    base: Any, deadline: _Deadline, limits: Limits, context: Optional[ssl.SSLContext]
) -> Callable[..., Any]:
    class Connection(base):
        def connect(self) -> None:
            connection = socket.create_connection((self.host, self.port), deadline.wait_s(limits.connect_s))
            self.sock = _TimedSocket(connection, deadline, limits.idle_s)
            if self._tunnel_host:
                self._tunnel()
            if context is not None:
                connection.settimeout(deadline.wait_s(limits.idle_s))
                name = self._tunnel_host or self.host
                secure = context.wrap_socket(connection, server_hostname=name)
                self.sock = _TimedSocket(secure, deadline, limits.idle_s)

    return Connection


class _SameScheme(urllib.request.HTTPRedirectHandler):
    """Follows redirects within http, or within https."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        old, new = (urllib.parse.urlsplit(address).scheme for address in (req.full_url, newurl))
        if old != new:
            raise urllib.error.URLError(f"redirected from {old} to {shortened(new, 20)}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(address: str, target: Path, limits: Limits = LIMITS, context: Optional[ssl.SSLContext] = None) -> None:
    """Write what an address answers into a file.

    Args:
        address: http or https, without anything secret.
        context: whose certificates are believed; None: the system's.
    Raises:
        InputError: unreachable, too slow, too large, ended early, or refused by the server; names the address.
    """
    where = shown_source(address)
    try:
        with _open(address, limits, context) as answer, target.open("wb") as handle:
            length = answer.headers.get("Content-Length", "")
            received = 0
            for chunk in iter(lambda: answer.read1(_CHUNK_BYTES), b""):
                received += len(chunk)
                if received > limits.most_bytes:
                    raise InputError(f"{where}: larger than {limits.most_bytes >> 20} MB, no weights of this network")
                handle.write(chunk)
            if length.isdecimal() and len(length) < 20 and received != int(length):
                raise InputError(f"{where}: the download ended early, after {received} of {int(length)} bytes")
    except http.client.IncompleteRead:
        raise InputError(f"{where}: the download ended early") from None
    except urllib.error.HTTPError as error:
        raise InputError(f"{where}: download failed ({error.code} {shortened(error.reason)})") from None
    except OSError as error:
        # This covers urllib's errors and broken connections, but also a full disk, which is a fault of its own.
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or error.filename is not None:
            raise
        reason = getattr(error, "reason", error)
        raise InputError(f"{where}: download failed ({shortened(reason)})") from None
    except (http.client.HTTPException, ValueError) as error:
        raise InputError(f"{where}: download failed ({type(error).__name__})") from None


def _open(address: str, limits: Limits, context: Optional[ssl.SSLContext]) -> Any:
    deadline = _Deadline(limits)
    plain = _connection_class(http.client.HTTPConnection, deadline, limits, None)
    secure = _connection_class(http.client.HTTPSConnection, deadline, limits, context or ssl.create_default_context())

    class Http(urllib.request.HTTPHandler):
        def http_open(self, req: Any) -> Any:
            return self.do_open(plain, req)

    class Https(urllib.request.HTTPSHandler):
        def https_open(self, req: Any) -> Any:
            return self.do_open(secure, req)

    # Built from single handlers, because urllib's usual opener would also follow a redirect to a file or to FTP.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        Http(),
        Https(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _SameScheme(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener.open(address)
