"""What a grid will cost: time, memory and disk of all that is not fresh, from throughputs that were measured."""

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import NamedTuple

from reconfair import store
from reconfair.params import Study
from reconfair.run.products import every_product
from reconfair.store import Product, Work, clock

SPREAD = 3  # times as long, or as short, as estimated is still no surprise


class Cost(NamedTuple):
    """What one product takes."""

    run: str
    product: str
    state: str
    seconds: float
    work: Work
    basis: str


def costs(plans: list[tuple[Study, list[str]]]) -> dict[Product, Cost]:
    """Return the cost of each product of some chapters that is not fresh; what configurations share, once."""
    by_product, rates = {}, store.throughputs()
    for study, names in plans:
        numbers = [name[:2] for name in names]
        for product in every_product(study):
            counted = product.work is not None  # else its notebook's time holds it
            if counted and product.chapter in numbers and product not in by_product and not product.fresh:
                (seconds, basis), work = store.estimate(product, rates), product.work()
                run = study.name if product.run in (study.name, study.label) else product.run
                by_product[product] = Cost(run, product.title, product.state, seconds, work, basis)
    return by_product


def table(every: dict[Product, Cost]) -> str:
    """One line for each product, one for each run, and the sum."""
    every = [*every.values()]
    head = f"{'run':<24}{'product':<58}{'state':<9}{'time':>9}{'GPU h':>7}{'memory':>10}{'disk':>10}  throughput"
    lines = [head, *(_line(cost.run, cost.product, cost.state, [cost], cost.basis) for cost in every)]
    runs = dict.fromkeys(cost.run for cost in every)
    lines += [_line(name, "", "", [cost for cost in every if cost.run == name]) for name in runs]
    lines.append(_line("in all", "one after the other", "", every))
    if any(cost.basis == "table" for cost in every):
        lines.append("table: no such product was made here yet; the package's own number may be far from this machine")
    if any(cost.basis == "H100" for cost in every):
        lines.append("H100: no such product was made on a GPU here yet; the speed of an H100 is assumed (docs/gpu.md)")
    return "\n".join(lines)


def what_if(every: dict[Product, Cost], gpus: Iterable[int]) -> str:
    """How long the products take with so many GPUs, and the chain of products that no number of GPUs shortens."""
    ahead = _seconds_to_the_end(every)
    lines = [f"{'GPUs':>6}{'time':>10}{'from':>10}{'to':>10}    a third to three times the estimate"]
    for number in gpus:
        seconds = _schedule(every, ahead, number)
        lines.append(f"{number:>6}{clock(seconds):>10}{clock(seconds / SPREAD):>10}{clock(seconds * SPREAD):>10}")
    chain, following = [], list(every)
    while following:
        chain.append(max(following, key=ahead.get))
        following = [product for product in every if chain[-1] in product.needs]
    steps = [f"{every[product].run} {every[product].product} ({clock(every[product].seconds)})" for product in chain]
    return "\n".join(
        [*lines, f"critical path, {clock(max(ahead.values(), default=0))}:", *(f"  {step}" for step in steps)]
    )


def _seconds_to_the_end(every: dict[Product, Cost]) -> dict[Product, float]:
    """Seconds from the start of each product to the end of the longest chain that begins with it."""
    ahead = {product: cost.seconds for product, cost in every.items()}
    for product in reversed(list(every)):  # a product comes after all that it needs
        for need in product.needs:
            if need in ahead:
                ahead[need] = max(ahead[need], every[need].seconds + ahead[product])
    return ahead


def _schedule(every: dict[Product, Cost], ahead: dict[Product, float], gpus: int) -> float:
    """Seconds until all is made: those with the longest chain first, one on each GPU; the others need no GPU."""
    waiting = {product: {need for need in product.needs if need in every} for product in every}
    running, now, order = [], 0.0, {product: k for k, product in enumerate(every)}
    while waiting or running:
        for product in sorted((p for p, needs in waiting.items() if not needs), key=lambda p: (-ahead[p], order[p])):
            on_gpu = every[product].work.gpu
            if not on_gpu or gpus:
                gpus -= on_gpu
                heappush(running, (now + every[product].seconds, order[product], product))
                del waiting[product]
        now, _, ended = heappop(running)
        gpus += every[ended].work.gpu
        for needs in waiting.values():
            needs.discard(ended)
    return now


def _line(name: str, product: str, state: str, costs: list[Cost], basis: str = "") -> str:
    seconds, hours = (sum(cost.seconds for cost in some) for some in (costs, [c for c in costs if c.work.gpu]))
    memory = max((cost.work.memory for cost in costs), default=0) / 1e3
    disk = sum(cost.work.disk for cost in costs) / 1e3
    numbers = f"{clock(seconds):>9}{hours / 3600:>7.2f}{memory:>7.1f} GB{disk:>7.2f} GB"
    return f"{name:<23} {product:<57} {state:<9}{numbers}  {basis}".rstrip()
