"""A reader of pickled data that is no pickle machine.

`.pdparams` files and torch checkpoints are pickles, and a pickle is a program. Python's own unpickler can be told which
names to refuse, and still a hostile file gets far with it. Who attacks how, and what stands against it:

- *It runs code.* A name such as `os.system`, called with arguments. Here a name means what `find_class` of a sub-class
  says, and nothing is called that is not a `Maker` of ours; every other name is refused.
- *It changes what it may name.* `BUILD` sets attributes of a function or class that was allowed. Here only a
  `Buildable` takes a state, and a `Maker` has slots that no file reaches.
- *It makes much of little.* One large value is named a hundred thousand times by the memo, and each time a tuple, a
  dict or bytes are made of it. Every instruction and everything that a maker copies is paid from the file's `Budget`;
  calls have at most a few arguments.
- *It claims sizes.* A text of 8 exabytes, a memo slot of 2^31, a number of a million digits. What is read is bounded by
  what is there, the memo is a dict, and an instruction that is not known is refused before its argument is looked at.
- *It keeps the processor busy.* A key whose nested tuples take 2^120 steps to hash, or a hundred thousand whole numbers
  of one hash. Dict keys here are short texts (whose hashes nobody can choose) or small whole numbers.
- *It swells as text.* One character beyond Latin-1 makes Python keep each character of a text in up to four bytes; such
  texts are paid for.

The containers around the pickles have attacks of their own (`torch_files`, `tar_files`); numbers that are read but make
no sense are the business of `array_files`.
"""

from __future__ import annotations

import pickletools
import re
from typing import Any, BinaryIO, Callable, Dict, List

from stdc.errors import shortened

#: Longest key of a dict, longest line of a text instruction, and most arguments of a call.
_LONGEST_KEY = 500
_LONGEST_LINE = 100_000
_MOST_ARGUMENTS = 16
#: Whole numbers below 2^60 have hashes of their own, in every Python.
_KEY_BITS = 60
#: Bytes of text beyond Latin-1 that cost as much as one value.
_WIDE_BYTES = 16
_BEYOND_LATIN1 = re.compile(rb"[\xc4-\xff]|\\[uU]")

#: Instructions that put their argument on the stack: a number, or up to 255 bytes.
_NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_LENGTHS = {
    "SHORT_BINUNICODE": 1, "BINUNICODE": 4, "BINUNICODE8": 8, "SHORT_BINBYTES": 1, "BINBYTES": 4, "BINBYTES8": 8,
    "SHORT_BINSTRING": 1, "BINSTRING": 4,
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = {"PROTO", "FRAME"}

_OPCODES: Dict[str, Any] = {opcode.code: opcode for opcode in pickletools.opcodes}

_MARK = object()


class RefusedError(Exception):
    """The file asks for something that a table of numbers does not need."""


class Budget:
    """What one file may make a reader build; the instructions of this network's state dict are a thirtieth of it."""

    #: Instructions, and elements that makers copy. A million values take about 100 MB and two seconds.
    values = 1_000_000
    #: The largest network here has 52 MB, and protocol 2 has them twice: as text and as an array.
    array_bytes = 224 << 20

    def spend(self, values: int) -> None:
        """Pay for instructions or copied elements.

        Raises:
            RefusedError: the file has spent all it may.
        """
        self.values -= values
        if self.values < 0:
            raise RefusedError(f"more than {Budget.values} instructions and values, which no list of arrays needs")

    def spend_bytes(self, count: int) -> None:
        """Pay for the bytes of an array.

        Raises:
            RefusedError: the file has spent all it may.
        """
        self.array_bytes -= count
        if self.array_bytes < 0:
            raise RefusedError(f"more than {Budget.array_bytes >> 20} MB of numbers; this network has at most 52 MB")


class Maker:
    """What a name in a file stands for: a function of ours that builds data from data.

    A class with slots, so that a file cannot change the function behind it. The function gets the file's budget first,
    and pays for what it copies.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, budget: Budget, *arguments: Any) -> Any:
        return self._function(budget, *arguments)


class Buildable:
    """An object that a file gives a state after making it."""

    def build(self, state: Any) -> None:
        """Take the state over, or refuse it."""
        raise NotImplementedError


def make_tuple(budget: Budget, values: Any = ()) -> Any:
    """What `builtins.tuple` does for data."""
    if not isinstance(values, (list, tuple)):
        raise RefusedError("a tuple made in an unusual way")
    budget.spend(len(values))
    return tuple(values)


def make_dict(budget: Budget, pairs: Any = ()) -> Dict[Any, Any]:
    """What `collections.OrderedDict` does for data: empty, or from a list of pairs."""
    if not isinstance(pairs, (list, tuple)):
        raise RefusedError("a dict made in an unusual way")
    budget.spend(2 * len(pairs))
    table: Dict[Any, Any] = {}
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise RefusedError("a dict made in an unusual way")
        table[_key(pair[0])] = pair[1]
    return table


class DataUnpickler:
    """Reads one pickle from a binary file, which is left behind its last byte.

    Sub-classes say what names mean.

    Args:
        handle: the file.
        budget: of the file; several pickles in one file share it.
    """

    def __init__(self, handle: BinaryIO, budget: Budget) -> None:
        self._handle = handle
        self.budget = budget

    def find_class(self, module: str, name: str) -> Any:
        """What a name stands for: a `Maker`, or a marker object. Raise `RefusedError` for all others."""
        raise RefusedError(f"the file asks to run {shortened(f'{module}.{name}')}")

    def persistent_load(self, identifier: Any) -> Any:
        """What a reference out of the pickle stands for."""
        raise RefusedError("a reference to something outside the file")

    def load(self) -> Any:
        """The pickled value.

        Raises:
            RefusedError: it asks for more than data.
            Exception: whatever a damaged file leads to; callers give all of it one message.
        """
        stack: List[Any] = []
        memo: Dict[int, Any] = {}
        while True:
            self.budget.spend(1)
            opcode = _OPCODES.get(self._read(1).decode("latin1"))
            if opcode is None:
                raise ValueError("no instruction")
            name = opcode.name
            if name in _NUMBERS:
                stack.append(opcode.arg.reader(self._handle))
            elif name in _LENGTHS:
                stack.append(self._text_or_bytes(name))
            elif name == "UNICODE":
                stack.append(self._text(self._line(), "raw-unicode-escape"))
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[opcode.arg.reader(self._handle)])
            elif name in ("BINPUT", "LONG_BINPUT"):
                memo[opcode.arg.reader(self._handle)] = stack[-1]
            elif name == "GET":
                stack.append(memo[self._slot()])
            elif name == "PUT":
                memo[self._slot()] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name == "MARK":
                stack.append(_MARK)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
                stack.append({} if name == "EMPTY_DICT" else [] if name == "EMPTY_LIST" else ())
            elif name == "TUPLE":
                stack.append(tuple(_since_mark(stack)))
            elif name in _TUPLES:
                stack.append(tuple(_pop(stack, _TUPLES[name])))
            elif name == "LIST":
                stack.append(_since_mark(stack))
            elif name == "DICT":
                items = _since_mark(stack)
                stack.append({})
                _set_items(stack, items)
            elif name in ("SETITEM", "SETITEMS"):
                _set_items(stack, _pop(stack, 2) if name == "SETITEM" else _since_mark(stack))
            elif name in ("APPEND", "APPENDS"):
                _append(stack, _pop(stack, 1) if name == "APPEND" else _since_mark(stack))
            elif name == "GLOBAL":
                module, attribute = (self._line().decode("utf-8", "replace") for _ in range(2))
                stack.append(self.find_class(module, attribute))
            elif name == "STACK_GLOBAL":
                module, attribute = _pop(stack, 2)
                if not isinstance(module, str) or not isinstance(attribute, str):
                    raise RefusedError("a name that is no text")
                stack.append(self.find_class(module, attribute))
            elif name in ("REDUCE", "NEWOBJ"):
                stack.append(self._call(*_pop(stack, 2)))
            elif name == "BUILD":
                _build(stack)
            elif name == "BINPERSID":
                stack.append(self.persistent_load(*_pop(stack, 1)))
            elif name == "STOP":
                (value,) = stack
                return value
            elif name in _IGNORED:
                opcode.arg.reader(self._handle)
            else:
                raise RefusedError(f"the instruction {name}, which a table of numbers does not need")

    def _call(self, maker: Any, arguments: Any) -> Any:
        if not isinstance(maker, Maker) or not isinstance(arguments, tuple) or len(arguments) > _MOST_ARGUMENTS:
            raise RefusedError("a call of something that is not known to build data")
        return maker(self.budget, *arguments)

    def _read(self, count: int) -> bytes:
        data = self._handle.read(count)
        if len(data) != count:
            raise EOFError("it breaks off")
        return data

    def _text_or_bytes(self, name: str) -> Any:
        length = int.from_bytes(self._read(_LENGTHS[name]), "little")
        # No file that is read here is larger; a read of more could reserve memory for all that was asked for.
        if length > self.budget.array_bytes:
            raise RefusedError(f"a text of {length} bytes")
        data = self._read(length)
        if "STRING" in name:
            return data.decode("latin1")
        if "BYTES" in name:
            return data
        return self._text(data, "utf-8")

    def _text(self, data: bytes, encoding: str) -> str:
        if _BEYOND_LATIN1.search(data):
            self.budget.spend(len(data) // _WIDE_BYTES)
        return data.decode(encoding, "surrogatepass" if encoding == "utf-8" else "strict")

    def _line(self) -> bytes:
        line = self._handle.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise RefusedError("a line that does not end")
        return line[:-1]

    def _slot(self) -> int:
        line = self._line()
        if len(line) > len(str(1 << 62)):
            raise RefusedError("a memo slot beyond all memory")
        return int(line)


def _pop(stack: List[Any], count: int) -> List[Any]:
    values = stack[-count:]
    if len(values) < count or any(value is _MARK for value in values):
        raise ValueError("a value is missing")
    del stack[-count:]
    return values


def _since_mark(stack: List[Any]) -> List[Any]:
    for place in range(len(stack) - 1, -1, -1):
        if stack[place] is _MARK:
            values = stack[place + 1 :]
            del stack[place:]
            return values
    raise ValueError("no mark")


def _key(value: Any) -> Any:
    if isinstance(value, str) and len(value) <= _LONGEST_KEY:
        return value
    if isinstance(value, int) and value.bit_length() <= _KEY_BITS:
        return value
    raise RefusedError("a key that is neither a short text nor a small whole number")


def _set_items(stack: List[Any], items: List[Any]) -> None:
    target = stack[-1]
    if not isinstance(target, dict) or len(items) % 2:
        raise RefusedError("items set in something that is no dict")
    for key, value in zip(items[::2], items[1::2]):
        target[_key(key)] = value


def _append(stack: List[Any], items: List[Any]) -> None:
    if not isinstance(stack[-1], list):
        raise RefusedError("items added to something that is no list")
    stack[-1].extend(items)


def _build(stack: List[Any]) -> None:
    (state,) = _pop(stack, 1)
    target = stack[-1]
    if isinstance(target, dict):
        # Attributes of an ordered dict, such as torch's `_metadata`: of no use here.
        return
    if not isinstance(target, Buildable):
        raise RefusedError("a state for something that has none")
    target.build(state)
