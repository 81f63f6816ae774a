"""The owner of the shared database: the operations `noun.verb` that change it (see `registry`)."""

from relay.owner.error import OwnerError
from relay.owner.owner import Owner
from relay.owner.reader import Reader
from relay.owner.registry import OPERATIONS, READ_ONLY

__all__ = ["OPERATIONS", "READ_ONLY", "Owner", "OwnerError", "Reader"]
