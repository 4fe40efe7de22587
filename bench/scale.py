"""What deciding costs as a job grows: the rows of the table, and the figures behind the plot."""

from __future__ import annotations

import csv
import dataclasses
import pathlib
from collections.abc import Sequence

from programs import ROOT, Program
from report import Reach, Row, alone, median

FIGURES = ROOT / "bench" / "out" / "coordinator.csv"
RANKS = 8  # of each node


@dataclasses.dataclass(frozen=True)
class Cost:
    """One snapshot of a job of so many nodes; medians."""

    nodes: int
    coordinator_seconds: float
    member_seconds: float  # of one other node
    reports: float
    commands: float
    longest_call_seconds: float  # of the coordinator


def measure(program: str, nodes: int, rounds: int) -> Cost:
    with Program([program, str(nodes), str(RANKS)]) as job:
        job.ask("snapshot")  # what follows has an older snapshot to free
        taken = [job.ask("snapshot") for _ in range(rounds)]
    columns = [median([row[i] for row in taken]) for i in range(6)]
    return Cost(nodes, columns[0], columns[1], columns[2], columns[3], columns[5])


def write(costs: Sequence[Cost], path: pathlib.Path = FIGURES) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow([field.name for field in dataclasses.fields(Cost)])
        lines.writerows(dataclasses.astuple(cost) for cost in costs)


def read(path: pathlib.Path = FIGURES) -> list[Cost]:
    with open(path, newline="") as file:
        return [
            Cost(int(row.pop("nodes")), **{name: float(value) for name, value in row.items()})
            for row in csv.DictReader(file)
        ]


def rows(program: str, nodes: Sequence[int], rounds: int) -> list[Row]:
    costs = [measure(program, count, rounds) for count in nodes]
    write(costs)
    last = costs[-1]
    # Two groups are the fewest whose nodes have all the work that nodes of many have.
    first = next((cost for cost in costs if cost.nodes >= 16), costs[0])
    growth = last.member_seconds / first.member_seconds
    return [
        alone(f"coordinator, one snapshot of {last.nodes:,} nodes x {RANKS} ranks", "s",
              last.coordinator_seconds, Reach("ours", most=1.0, unit="s"),
              f"{last.reports:,.0f} reports, {last.commands:,.0f} commands; "
              f"its longest call {1e3 * last.longest_call_seconds:.0f} ms"),
        alone(f"work of one node, {last.nodes:,} nodes to {first.nodes}", "x", growth,
              Reach("ours", most=2.0),
              f"{1e3 * first.member_seconds:.2f} to {1e3 * last.member_seconds:.2f} ms "
              "of processor for each snapshot"),
    ]  # fmt: skip
