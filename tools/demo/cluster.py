"""Nodes on this machine: a daemon for each at an address of its own, which protect each other."""

from __future__ import annotations

import pathlib
import shutil

from node import Node

PORT = 7411


class Cluster:
    """Daemons at 127.0.1.N, each with an arena, a catalog and a configuration of its own.

    arenas: a folder in memory, for their arenas.
    """

    #: Tests that run side by side have one each.
    subnet = "127.0.1"

    def __init__(
        self, folder: pathlib.Path, arenas: pathlib.Path, environment: dict[str, str], count: int
    ) -> None:
        self.nodes = [
            Node(folder / f"node{i}", arenas / str(i), environment) for i in range(1, count + 1)
        ]

    def start(self, i: int, failpoints: str = "", more: str = "") -> None:
        """more: lines of TOML, after what the node needs to be reached."""
        peers = f'[peer]\nlisten = "{self.address(i)}:{PORT}"\ndead_after = "2s"\n'
        self.nodes[i].start(failpoints, config=f"{peers}{more}")

    def address(self, i: int) -> str:
        return f"{self.subnet}.{i + 1}"

    def lose(self, i: int) -> None:
        """kill -9 of the daemon; its memory and what it wrote are gone for good."""
        node = self.nodes[i]
        node.kill()
        shutil.rmtree(node.arena)
        shutil.rmtree(node.state)
        node.state.mkdir()

    def clean(self) -> None:
        for node in self.nodes:
            node.clean()
