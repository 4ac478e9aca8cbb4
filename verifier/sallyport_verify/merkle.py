"""Leaves and Merkle roots of RFC 6962 section 2.1."""

from collections.abc import Iterable
from hashlib import sha256

LEAF_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(canonical: bytes) -> bytes:
    """The leaf of an event."""
    return sha256(b"\x00" + canonical).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The node over two others."""
    return sha256(b"\x01" + left + right).digest()


class MerkleTree:
    """A tree of which only the right edge is kept: a hash for each bit of the count of leaves."""

    def __init__(self) -> None:
        self._edge: list[bytes] = []
        self._count = 0

    def append(self, leaf: bytes) -> None:
        """One more leaf, to the right of all others."""
        node, count, edge = leaf, self._count, self._edge
        while count & 1:
            node = sha256(b"\x01" + edge.pop() + node).digest()
            count >>= 1
        edge.append(node)
        self._count += 1

    def root(self) -> bytes:
        """The root over all leaves so far."""
        if not self._edge:
            return EMPTY_ROOT
        node, *rest = reversed(self._edge)
        for left in rest:
            node = node_hash(left, node)
        return node


def merkle_root(leaves: Iterable[bytes]) -> bytes:
    """The root over leaves in order.

    Pairs are joined as soon as both are there and an odd last one goes up as it is, which is the same tree as the one that
    is split at the largest power of two below the count.
    """
    tree = MerkleTree()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


def root_of_leaves(data: bytes) -> bytes:
    """The root over leaves that stand one after the other, level by level: quicker, for what is in memory anyway."""
    if not data:
        return EMPTY_ROOT
    level = [data[at : at + LEAF_BYTES] for at in range(0, len(data), LEAF_BYTES)]
    while len(level) > 1:
        joined = [sha256(b"\x01" + left + right).digest() for left, right in zip(level[::2], level[1::2])]
        if len(level) % 2 == 1:
            joined.append(level[-1])
        level = joined
    return level[0]
