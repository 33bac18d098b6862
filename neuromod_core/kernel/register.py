"""A register: a decorator that names classes, and a mapping that refuses duplicates and suggests names."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Generic, TypeVar

from neuromod_core.kernel.errors import DuplicateName, UnknownName

T = TypeVar("T")


def unknown(kind: str, name: str, known: Mapping[str, object] | list[str], where: str = "") -> UnknownName:
    """Return the error for a name that is not known: with the nearest known one, or with all of them."""
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(sorted(known)) or 'none'}."
    return UnknownName(f"No {kind} is called {name!r}{f' ({where})' if where else ''}. {hint}")


class Register(Mapping[str, T], Generic[T]):
    """Names for things of one kind, in the order of their names."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._by_name: dict[str, T] = {}

    def add(self, name: str) -> Callable[[T], T]:
        """Return a class decorator that registers its class under `name`; a second `add` of a name raises."""

        def keep(item: T) -> T:
            if name in self._by_name:
                raise DuplicateName(f"Two {self.kind}s are called {name!r}.")
            self._by_name[name] = item
            return item

        return keep

    def discover(self, package: ModuleType) -> None:
        """Import every module below `package`, so that each registers what it holds."""
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)

    def __getitem__(self, name: str) -> T:
        try:
            return self._by_name[name]
        except KeyError:
            raise unknown(self.kind, name, self._by_name) from None

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._by_name))

    def __len__(self) -> int:
        return len(self._by_name)
