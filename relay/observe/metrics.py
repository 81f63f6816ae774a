from typing import Any


class M:
    def inc(self, labels=(), n=1):
        pass

    def set(self, v, labels=()):
        pass

    def observe(self, v, labels=()):
        pass


def __getattr__(name: str) -> Any:
    return M()


class Base:
    def add(self, s):
        pass


def snapshot():
    return {}


def merge(a, b):
    return ""
