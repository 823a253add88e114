"""What a grid will cost: time, memory and disk of all that is not fresh, from throughputs that were measured."""

from typing import NamedTuple

from reconfair import store
from reconfair.params import Study
from reconfair.run.products import every_product
from reconfair.store import GPU, Work, clock


class Cost(NamedTuple):
    """What one product takes."""

    run: str
    product: str
    state: str
    seconds: float
    work: Work
    basis: str


def costs(plans: list[tuple[Study, list[str]]]) -> list[Cost]:
    """Return the cost of each product of some chapters that is not fresh; what configurations share, once."""
    by_product, rates = {}, store.throughputs()
    for study, names in plans:
        numbers = [name[:2] for name in names]
        for product in every_product(study):
            counted = product.work is not None  # else its notebook's time holds it
            if counted and product.chapter in numbers and product not in by_product and not product.fresh:
                (seconds, basis), work = store.estimate(product, rates), product.work()
                key = product.key.removeprefix(f"{product.run}/")
                by_product[product] = Cost(study.name, key, product.state, seconds, work, basis)
    return list(by_product.values())


def table(plans: list[tuple[Study, list[str]]]) -> str:
    """One line for each product, one for each run, and the sum."""
    every = costs(plans)
    head = f"{'run':<24}{'product':<58}{'state':<9}{'time':>9}{'GPU h':>7}{'memory':>10}{'disk':>10}  throughput"
    lines = [head, *(_line(cost.run, cost.product, cost.state, [cost], cost.basis) for cost in every)]
    runs = dict.fromkeys(cost.run for cost in every)
    lines += [_line(name, "", "", [cost for cost in every if cost.run == name]) for name in runs]
    lines.append(_line("in all", "one after the other", "", every))
    if any(cost.basis == "table" for cost in every):
        lines.append("table: no such product was made here yet; the package's own number may be far from this machine")
    if any(cost.basis == "guess" for cost in every):
        lines.append(f"guess: no such product was made on a GPU here yet; {GPU} times the table's CPU is assumed")
    return "\n".join(lines)


def _line(name: str, product: str, state: str, costs: list[Cost], basis: str = "") -> str:
    seconds, hours = (sum(cost.seconds for cost in some) for some in (costs, [c for c in costs if c.work.gpu]))
    memory = max((cost.work.memory for cost in costs), default=0) / 1e3
    disk = sum(cost.work.disk for cost in costs) / 1e3
    numbers = f"{clock(seconds):>9}{hours / 3600:>7.2f}{memory:>7.1f} GB{disk:>7.2f} GB"
    return f"{name:<24}{product:<58}{state:<9}{numbers}  {basis}".rstrip()
