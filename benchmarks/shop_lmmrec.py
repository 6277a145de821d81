"""LMMRec where the truth is known: the recipe lmmrec-shop on five shops, whether its reasons are true, and what they carry.

    python benchmarks/shop_lmmrec.py [--shops 0 1 2 3 4] [--rates 0 0.2 0.3] [--out runs/shops] [--store store] [--json]

Each shop is another world with products, shoppers and motives of its own; the recipe is run on each as it stands. Printed:

- accuracy on test at each rate of noise, mean over shops, and on how many shops LMMRec stands above the other; its share lost
- match: shoppers for whom the first phrase of their strongest prototype means one of their true motives. A phrase means the
  motive whose sign words (words that only reviews about it use) it holds most of; a prototype without a phrase, or with one
  that holds none, counts as a miss. chance: what the same phrases would reach if shoppers were shuffled.
- faithfulness: how much a shopper's first recommendation loses without the evidence that is shown for it, over what it loses
  without as many items at random, the most popular ones, and those most like it (`penchant.faithful`)

A run that is finished is not done again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from motives import truth

from penchant import recipe, run, shop
from penchant.faithful import faithfulness
from penchant.scorers import Motivated
from penchant.store import Store
from penchant.under_noise import level

RECIPE = Path(__file__).parent.parent / "recipes" / "lmmrec-shop.toml"


def match(made: run.Run, world: shop.Shop) -> tuple[float, float]:
    """The share of shoppers whose strongest prototype is named by a true motive of theirs; and by chance."""
    scorer, train = made.recommender.scorer, made.prepared.split.train
    assert isinstance(scorer, Motivated)
    assert made.drives is not None
    log = world.dataset.interactions
    place = {pair: row for row, pair in enumerate(zip(log.user.tolist(), log.item.tolist(), strict=True))}
    rows = [place[pair] for pair in zip(train.user.tolist(), train.item.tolist(), strict=True)]
    true = truth(world, np.array(rows))  # (U, M)
    means = np.full(len(made.drives.phrases), -1)
    for k, phrases in enumerate(made.drives.phrases):
        signs = world.match(phrases[0]) if phrases else np.zeros(1)
        means[k] = signs.argmax() if signs.any() else -1
    said = means[scorer.lift.argmax(axis=1)]  # (U,)
    known = said >= 0
    hit = true[np.arange(len(said)), said] & known
    return float(hit.mean()), float((true.mean(axis=0)[said] * known).mean())


def below(p: float) -> str:
    """A power of ten that p stays below."""
    return f"< 1e{np.floor(np.log10(p)) + 1:.0f}" if p else "< 1e-300"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shops", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--rates", type=float, nargs="+", help="of noise, 0 among them; else the recipe's")
    parser.add_argument("--out", type=Path, default=Path("runs/shops"))
    parser.add_argument("--store", default="store")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.rates and 0 not in asked.rates:
        parser.error("what noise costs is told against none: --rates 0 0.2")
    accuracy: dict[str, dict[float, list[dict[str, float]]]] = {}
    matches, drops = [], []
    for number in asked.shops:
        changed = [f"noise.rates={asked.rates}"] if asked.rates else []
        wish = recipe.read(RECIPE, [f"data=shop:{number}", *changed])
        made = run.run(wish, asked.out / str(number), Store(asked.store))
        assert made.report.noise is not None
        for model in made.report.noise.models:
            for at in model.per_rate:
                accuracy.setdefault(model.name, {}).setdefault(at.rate, []).append(dict(at.mean))
        matches.append(match(made, shop.make(seed=number)))
        rec = made.recommender
        found = faithfulness(rec, range(len(rec.users)))
        drops.append({other.way: (other.ratio, other.p) for other in found.others})
        if not asked.json:
            print(f"shop {number}: match {matches[-1][0]:.0%}, chance {matches[-1][1]:.0%}", flush=True)
    own = next(iter(accuracy))
    table = []
    for name, rates in accuracy.items():
        for rate, shops in rates.items():
            for metric in ("recall@20", "ndcg@20"):
                values = np.array([one[metric] for one in shops])
                ours = np.array([one[metric] for one in accuracy[own][rate]])
                clean = np.array([one[metric] for one in rates[0.0]])
                table.append(
                    {
                        "model": name,
                        "rate": rate,
                        "metric": metric,
                        "mean": round(float(values.mean()), 4),
                        "above": int((ours > values).sum()),
                        "lost": round(1 - float(values.mean() / clean.mean()), 4),
                    }
                )
    facts = {
        "match": [round(hit, 3) for hit, _ in matches],
        "chance": [round(chance, 3) for _, chance in matches],
        "faithfulness": {way: [round(one[way][0], 2) for one in drops] for way in drops[0]},
        "largest p": {way: max(one[way][1] for one in drops) for way in drops[0]},  # 0: below what a float holds
    }
    if asked.json:
        print(json.dumps({"accuracy": table, **facts}))
        return
    for row in table:
        beside = "" if row["model"] == own else f"  LMMRec above on {row['above']} of {len(asked.shops)}"
        print(
            f"{level(row['rate']):>5} {row['metric']:>9} {row['mean']:.4f}, lost {row['lost']:6.1%}  {row['model']}{beside}"
        )
    print(f"match {np.mean(facts['match']):.1%}, chance {np.mean(facts['chance']):.1%}")
    for way in drops[0]:
        print(
            f"evidence over {way}: {np.mean(facts['faithfulness'][way]):.2f} times; p {below(facts['largest p'][way])}"
        )


if __name__ == "__main__":
    main()
