"""How long a shop takes to make, and how much memory: by default a million interactions with their reviews.

    python benchmarks/shop_speed.py [--shoppers 60000] [--products 3000] [--choices 17]

Prints one line a part and the whole. Memory is the peak of this process, the finished world included.
"""

from __future__ import annotations

import argparse
import resource
import time

from penchant import shop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shoppers", type=int, default=60_000)
    parser.add_argument("--products", type=int, default=3_000)
    parser.add_argument("--choices", type=float, default=17.0)
    sizes = parser.parse_args()

    def made(pictures: bool) -> tuple[shop.Shop, float]:
        start = time.perf_counter()
        world = shop.make(
            products=sizes.products, shoppers=sizes.shoppers, choices=sizes.choices, pictures=pictures, seed=0
        )
        return world, time.perf_counter() - start

    before = _peak()
    world, seconds = made(pictures=False)
    log = world.dataset.interactions
    reviews = sum(review is not None for review in log.review or ())
    print(f"{len(log):,} interactions, {reviews:,} reviews, {sizes.shoppers:,} shoppers, {sizes.products:,} products")
    print(f"without pictures {seconds:8.1f} s   {len(log) / seconds:,.0f} interactions a second")
    print(f"peak memory      {_peak():8.0f} MB  of which {before:.0f} MB before the start")
    del world, log
    _, seconds = made(pictures=True)
    print(f"with pictures    {seconds:8.1f} s")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
