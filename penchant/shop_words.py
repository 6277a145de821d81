"""The shop's words: categories, materials, features and brands, and how each of them speaks to each motive.

The tables are plain text, one thing a line, so that the shop can be read and changed like a price list. No text here
contains a motive's own words, a pattern or an accent colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = ["LETTERS", "MODELS", "MOTIVES", "Category", "brands", "categories", "lean", "looks"]

MOTIVES = (
    "saves money",
    "for the outdoors",
    "a gift",
    "style over price",
    "durable",
    "for children",
    "eco-friendly",
    "saves time",
)
LETTERS = "mogsdcet"  # one letter a motive, used in the tables below

# category | shelf | nouns of the first drawing | nouns of the second | usual price | cm | how much each motive is drawn to it
CATEGORIES = """
tents | Camping | ridge tent, trekking tent, two-person tent | dome tent, family tent, beach tent | 150 | 210 | o1.7 g-.8 s-.5 d.2
backpacks | Bags | day pack, school backpack, travel backpack | roll-top backpack, satchel backpack, cycling pack | 70 | 48 | o.9 c.3 g-.3 t.2
jackets | Clothing | zip jacket, cycling jacket, spring jacket | hooded jacket, rain jacket, field jacket | 110 | 70 | o.8 s.5 g-.3
mugs | Kitchen | coffee mug, soup mug, half-litre mug | tea mug, breakfast mug, cappuccino mug | 16 | 10 | g.6 o-.4 m.2
lamps | Living | bedside lamp, table lamp, desk lamp | pendant lamp, ceiling lamp, dining lamp | 65 | 38 | s.6 o-.4 c-.2
toys | Play | toy truck, pull-along truck, toy pickup | block set, stacking set, building set | 28 | 24 | c2 g.5 s-.6 o-.3
bottles | Kitchen | drinking bottle, sports bottle, insulated bottle | flask, juice bottle, travel flask | 22 | 26 | o.8 e.4 t.2 s-.3
cushions | Living | sofa cushion, floor cushion, square cushion | neck cushion, bench cushion, reading cushion | 32 | 45 | s.6 g.3 o-.7
notebooks | Desk | pocket notebook, travel notebook, lined notebook | spiral notebook, sketch notebook, recipe notebook | 14 | 21 | g.6 e.2 o-.4
umbrellas | Bags | walking umbrella, golf umbrella, long umbrella | folding umbrella, pocket umbrella, travel umbrella | 34 | 90 | o.3 s.3 t.2
teapots | Kitchen | round teapot, family teapot, breakfast teapot | kettle teapot, low teapot, tall teapot | 45 | 18 | g.6 s.2 c-.6 o-.5
baskets | Living | storage basket, laundry basket, log basket | market basket, picnic basket, shopping basket | 38 | 36 | t.4 e.4 c.1 g-.2
"""

# What it is made of, by category; the letter after a material is the motive that it speaks to.
MATERIALS = """
tents | ripstop nylon d, recycled polyester e, cotton canvas s, coated taffeta m
backpacks | waxed canvas s, recycled nylon e, ballistic nylon d, light polyester m
jackets | waxed cotton s, recycled fleece e, three-layer shell cloth o, heavy twill d
mugs | stoneware d, fine porcelain s, steel with enamel o, bamboo fibre e
lamps | brushed steel d, linen and oak s, recycled glass e, painted tin m
toys | beech wood d, oiled lime wood e, soft rubber c, painted tin g
bottles | stainless steel d, glass with a cork sleeve e, thin aluminium o, clear resin m
cushions | velvet s, organic cotton e, upholstery wool d, brushed cotton g
notebooks | recycled paper e, linen-bound paper g, stone paper d, simple wood-free paper m
umbrellas | silky pongee s, cloth from recycled bottles e, fibreglass and nylon d, light polyester m
teapots | cast iron d, hand-glazed earthenware g, bone china s, heatproof glass t
baskets | seagrass e, woven willow g, pressed felt t, powder-coated wire d
"""

# motive | categories, or * | features, as they are named in a description
FEATURES = """
m | * | an end-of-line reduction; a two-for-one offer; a no-frills finish; a tiny flaw and a big markdown
o | tents jackets umbrellas backpacks | taped seams against heavy rain; a water column of 10,000 mm
o | tents umbrellas | a gale-tested frame
o | tents backpacks bottles jackets | a packed weight under a kilo; loops for trekking poles and rope
o | mugs bottles teapots | a carabiner hook; a base made for the camp stove
o | lamps | a carabiner hook; a housing that keeps rain out
o | toys cushions notebooks baskets | a water-repellent coating for meadow and beach; a finish that mud does not harm
g | * | a ribbon-tied box; a card to write a greeting on; tissue paper and a wax seal
g | mugs bottles lamps toys teapots | engraved initials on request
g | tents backpacks jackets cushions umbrellas | an embroidered monogram on request
s | * | a shape drawn by a design studio; hand-finished details; a limited run of 200; a sculpted silhouette
d | * | a ten-year guarantee; spare parts for decades
d | tents backpacks jackets cushions umbrellas | double-stitched seams; reinforced corners
d | mugs bottles teapots lamps | a coating that shrugs off knocks
d | toys notebooks baskets | hinges and edges tested for years of use
c | backpacks jackets umbrellas bottles tents | a size for ages three to eight; a name tag inside; a clasp that little hands can open
c | toys mugs baskets teapots | rounded edges for little hands; a finish that is safe to chew
c | lamps | a glow that scares off bad dreams; a shade that little hands may touch
c | cushions | a pocket for the tooth fairy; a size for the nursery floor
c | notebooks toys | animal names to spell; a counting game
c | bottles mugs | a toddler-proof lid
e | * | plastic-free packaging; dyes made from plants; a take-back scheme; climate-neutral shipping
e | toys lamps baskets notebooks | wood from a certified forest
e | lamps backpacks tents | solar cells in place of batteries
t | tents lamps toys baskets | no assembly at all; a wipe-clean surface
t | mugs bottles teapots | a shape that fits the dishwasher; a wide mouth that rinses in a second
t | jackets cushions tents backpacks | a quick-drying weave; a cover for the washing machine
t | umbrellas tents baskets | a one-hand mechanism that opens in a second
t | umbrellas jackets | a fast-drying finish
t | notebooks backpacks | a ready-made weekly planner; an index to find things at once
"""

# What each motive sees in a pattern or an accent colour: only the picture shows it.
LOOKS = """
plain | s-.5 c-.8 e.7 d.4 g-.4
stripes | s.6 c-.4 d.2
dots | c.8 g.7 s-.5
checks | o.5 g.2 c-.4
zigzag | s1.5 e-.4 c-.1
stars | c1.4 s-1 e-.4
gold | s.8 g.8 m-.3
scarlet | g1 s-.5 o.3
turquoise | c.6 s-.5 g-.5
violet | s.5 g-.2
ink | s.9 c-.8 g-.6 d.3
pink | c.5 s-.6
"""

# brand | its prices against the usual | whom it speaks to
BRANDS = """
Pennyrow | .72 | m; Kistebo | .85 | m; Skarvik | 1.15 | o; Morrowfell | 1.2 | o; Ottilie | 1.1 | g; Lumo & Daughters | 1.1 | g
Veloura | 1.5 | s; Haldane Row | 1.35 | s; Greyling Works | 1.25 | d; Tuckerby | .95 | c; Brindlewick | 1 | c
Bramblecote | 1.1 | e; Quicksett | 1 | t; Fennbrook | 1 |
"""

MODELS = [
    "Heron",
    "Alder",
    "Pico",
    "Tarn",
    "Juniper",
    "Cobble",
    "Wren",
    "Lark",
    "Fjord",
    "Maple",
    "Harbour",
    "Meadow",
    "Pebble",
    "Otter",
    "Badger",
    "Linnet",
    "Sorrel",
    "Clover",
    "Bracken",
    "Thistle",
    "Hazel",
    "Rowan",
    "Willow",
    "Cedar",
    "Aspen",
    "Birch",
    "Lichen",
    "Plover",
    "Finch",
    "Swift",
    "Curlew",
    "Kestrel",
    "Osprey",
    "Puffin",
    "Tern",
    "Gannet",
    "Marten",
    "Stoat",
    "Hare",
    "Fawn",
    "Lynx",
    "Bilberry",
    "Quince",
    "Damson",
    "Medlar",
    "Cinder",
    "Flint",
    "Calder",
    "Esk",
    "Tweed",
    "Arran",
    "Skye",
    "Lundy",
    "Farne",
    "Iona",
    "Mull",
    "Orkney",
    "Rona",
    "Sark",
    "Harris",
    "Bodmin",
    "Cairn",
    "Delta",
    "Elm",
    "Fennel",
    "Grove",
    "Hollow",
    "Islay",
    "Jetty",
    "Kelp",
    "Larch",
    "Marsh",
    "Nettle",
    "Oxbow",
    "Poplar",
    "Quay",
    "Reed",
    "Sedge",
    "Tansy",
    "Upland",
    "Vale",
    "Wharf",
    "Yarrow",
    "Zephyr",
]

USES = """
tents | Room for everyone and their boots. A porch in front keeps bags dry. Pegs, lines and a sack come with it.
backpacks | One large room inside and a pocket for keys. Holds a laptop, lunch and a jumper. Sits close to the back.
jackets | Cut to be worn over a jumper. Two deep pockets and a high collar. Falls a little wide at the shoulders.
mugs | Holds enough for a long breakfast. The handle takes three fingers. Sits well in the hand.
lamps | Gives a warm, even light. The cable is two metres long. Takes any common bulb.
toys | Invites you to sit on the floor and play. Every part fits every other. Rolls, stacks and tumbles.
bottles | Does not leak in a bag. The opening is wide enough for ice. Holds what you need until lunch.
cushions | Filled to the corners and still soft. Good for a nap after lunch. Gives any seat a second life.
notebooks | Opens flat on any table. The paper takes pencil and fountain pen. A bookmark keeps the page.
umbrellas | Wide enough for one and a half. The grip sits well in the hand. Closes to a slim roll.
teapots | Pours without a drip. Keeps four cups warm. The lid stays on when you tilt it.
baskets | Swallows what lies around. Two hands carry it with ease. Stands firmly wherever you put it.
"""


@dataclass(frozen=True)
class Category:
    name: str
    shelf: str
    nouns: tuple[tuple[str, ...], tuple[str, ...]]  # of the first and of the second drawing
    price: float  # the usual one
    size: int  # the longer side in cm, about
    materials: tuple[tuple[str, int], ...]  # (name, motive)
    features: tuple[tuple[str, ...], ...]  # by motive
    uses: tuple[str, ...]
    lean: np.ndarray  # (M,)


@cache
def categories() -> tuple[Category, ...]:
    materials, uses = _lines(MATERIALS), _lines(USES)
    features: dict[tuple[str, int], list[str]] = {}
    names = [line.split("|")[0].strip() for line in CATEGORIES.strip().splitlines()]
    for line in FEATURES.strip().splitlines():
        letter, where, phrases = (part.strip() for part in line.split("|"))
        for name in names if where == "*" else where.split():
            features.setdefault((name, LETTERS.index(letter)), []).extend(p.strip() for p in phrases.split(";"))
    found = []
    for line in CATEGORIES.strip().splitlines():
        name, shelf, first, second, price, size, leaning = (part.strip() for part in line.split("|"))
        found.append(
            Category(
                name=name,
                shelf=shelf,
                nouns=(tuple(first.split(", ")), tuple(second.split(", "))),
                price=float(price),
                size=int(size),
                materials=tuple((m[:-2], LETTERS.index(m[-1])) for m in materials[name].split(", ")),
                features=tuple(tuple(features[name, motive]) for motive in range(len(MOTIVES))),
                uses=tuple(use.strip(". ") + "." for use in uses[name].split(". ")),
                lean=lean(leaning),
            )
        )
    return tuple(found)


@cache
def looks() -> dict[str, np.ndarray]:
    return {name: lean(words) for name, words in _lines(LOOKS).items()}


@cache
def brands() -> tuple[tuple[str, float, int], ...]:
    rows = [row.split("|") for row in BRANDS.strip().replace("\n", ";").split(";")]
    return tuple((name.strip(), float(level), LETTERS.find(m.strip() or "-")) for name, level, m in rows)


def lean(words: str) -> np.ndarray:
    """ "o1.7 g-.8" as a vector over motives. (M,)"""
    vector = np.zeros(len(MOTIVES))
    for word in words.split():
        vector[LETTERS.index(word[0])] = float(word[1:])
    return vector


def _lines(table: str) -> dict[str, str]:
    rows = [line.split("|") for line in table.strip().splitlines()]
    return {name.strip(): rest.strip() for name, rest in rows}
