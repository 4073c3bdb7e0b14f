"""A reader of pickled data that is no pickle machine.

Python's own unpickler can be told which names to refuse, and still a hostile file can make it allocate gigabytes for
its memo, hash a nest of tuples for years, or change the objects it was allowed to name. This one knows only what a
table of numbers needs: it builds plain containers, hands names to `find_class`, and calls nothing that is not a
`Maker` of the caller's. Dict keys are texts or numbers, so nothing nested is ever hashed, compared or printed.
"""

from __future__ import annotations

import pickletools
from typing import Any, BinaryIO, Callable, Dict, Iterator, List

#: More instructions than any network's state dict needs; bounds time and memory apart from the numbers themselves.
MAX_INSTRUCTIONS = 5_000_000

_LONGEST_NAME = 120

#: Instructions that put their argument on the stack.
_VALUES = {
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINSTRING",
    "SHORT_BINSTRING", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = {"PROTO", "FRAME"}

_MARK = object()


class RefusedError(Exception):
    """The file asks for something that a table of numbers does not need."""


def brief(text: str) -> str:
    """A name from a file, for a message: short, on one line, without control characters."""
    short = text if len(text) <= _LONGEST_NAME else text[:_LONGEST_NAME] + "…"
    return "".join(character if character.isprintable() else "?" for character in short)


class Maker:
    """What a name in a file stands for: a function of ours that builds data from data.

    A class with slots, so that a file cannot change the function behind it.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


class Buildable:
    """An object that a file gives a state after making it."""

    def build(self, state: Any) -> None:
        """Take the state over, or refuse it."""
        raise NotImplementedError


def make_dict(*arguments: Any) -> Dict[Any, Any]:
    """What `collections.OrderedDict` does for data: empty, or from a list of pairs."""
    made: Dict[Any, Any] = {}
    for pair in arguments[0] if arguments else ():
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise RefusedError("a dict made in an unusual way")
        made[_key(pair[0])] = pair[1]
    return made


class DataUnpickler:
    """Reads one pickle from a binary file, which is left behind its last byte.

    Sub-classes say what names mean.
    """

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle

    def find_class(self, module: str, name: str) -> Any:
        """What a name stands for: a `Maker`, or a marker object. Raise `RefusedError` for all others."""
        raise RefusedError(f"the file asks to run {brief(f'{module}.{name}')}")

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
        instructions: Iterator[Any] = pickletools.genops(self._handle)
        for count, (opcode, argument, _) in enumerate(instructions):
            if count > MAX_INSTRUCTIONS:
                raise RefusedError(f"more than {MAX_INSTRUCTIONS} instructions")
            name = opcode.name
            if name in _VALUES:
                stack.append(argument)
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
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
                module, _, attribute = argument.partition(" ")
                stack.append(self.find_class(module, attribute))
            elif name == "STACK_GLOBAL":
                module, attribute = _pop(stack, 2)
                if not isinstance(module, str) or not isinstance(attribute, str):
                    raise RefusedError("a name that is no text")
                stack.append(self.find_class(module, attribute))
            elif name in ("REDUCE", "NEWOBJ"):
                maker, arguments = _pop(stack, 2)
                if not isinstance(maker, Maker) or not isinstance(arguments, tuple):
                    raise RefusedError("a call of something that is not known to build data")
                stack.append(maker(*arguments))
            elif name == "BUILD":
                _build(stack)
            elif name == "BINPERSID":
                stack.append(self.persistent_load(*_pop(stack, 1)))
            elif name == "STOP":
                (value,) = stack
                return value
            elif name not in _IGNORED:
                raise RefusedError(f"the instruction {name}, which a table of numbers does not need")
        raise EOFError("no end mark")


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
    if not isinstance(value, (str, int, float, bytes)):
        raise RefusedError("a key that is neither a text nor a number")
    return value


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
