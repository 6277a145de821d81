"""The shop's reviews: a sentence on what made the choice, often a second one on what else mattered, some small talk.

A review never names a motive or uses its words: "my daughter carries it everywhere", not "bought it for a child". What
each sentence is about is known, which makes the texts a measuring instrument for whatever reads them.
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np

from penchant.shop_words import MOTIVES, categories

__all__ = ["SILENT", "SMALL_TALK", "nouns", "sentences", "signs", "words", "write"]

SILENT, SMALL_TALK = -2, -1  # what a review may be about other than a motive

# {n} is the product's noun. One paragraph a motive, in the order of MOTIVES: what is praised, then what is missed.
PRAISE = """
Half of what the shop in town asks for the same {n}.
I compared six of them and this was the cheapest by far.
A real bargain, my budget hardly noticed.
Cheap in the best sense, it does all that the dear ones do.
Waited for the discount and got the {n} for a song.
Good value, nothing left to haggle about.
Costs less than a lunch and does the same as my neighbour's posh one.
My purse is grateful for this {n}.
Affordable enough to order a second {n}.
No need to overspend when a {n} like this exists.
A frugal choice, no regrets.
Paid a third of what I had feared, at that cost you cannot go wrong.

Took the {n} up the ridge and through two nights of rain.
It came along on the whole coastal trail.
Packed it for a week of hiking in the hills.
At home by the campfire, this {n}.
Wind and drizzle on the summit did not bother it.
Goes straight into the canoe with me.
We use the {n} at every campsite.
Light enough for a long trek.
Been to the lake, the forest and the dunes with this {n}.
Just right when you are miles from the next road.
My companion on every mountain walk.
Nights in the wild got better with this {n}.

My sister unwrapped it and beamed.
Ordered the {n} for my mother's birthday and she loves it.
Came beautifully boxed, ribbon and all.
The bride and groom were delighted.
A lovely surprise for a colleague who retires.
Grandad has not put the {n} down since Christmas.
Just the thing to lay under the tree.
I wanted a present that looks thoughtful, and the {n} does.
The handwritten card that came with it made her day.
A good thing to bring when you are invited to dinner.
For our anniversary, and it earned me a kiss.
He guessed everything but a {n}, the whole party laughed.

Looks gorgeous, everyone asks where I found it.
The {n} is the most beautiful thing in my flat.
Elegant lines, and the colours are just so.
A design piece, I would have paid more.
Matches my curtains and my shoes, absurdly chic.
The pattern is even prettier than in the photo.
Such a handsome {n}, it turns heads.
Pure eye candy.
It has that magazine look I was after.
Fashionable without shouting.
I keep looking at this {n} because it is so pretty.
Tasteful down to the smallest detail.

Treated the {n} badly for a year and not a scratch.
A year of daily use and it looks like new.
Rock solid, nothing wobbles.
Sturdy as a tank.
Nothing budges, however hard you pull.
It has survived two house moves and a clumsy dog.
This {n} will outlive me.
Tough as old boots.
Heavy-duty through and through, no rattling.
My old one broke in a month, this {n} is still going strong.
You can feel the solid workmanship.
Daily wear and tear leaves no mark on this {n}.

My daughter carries the {n} everywhere.
The twins fight over it, which says everything.
Our toddler squeals whenever the {n} comes out.
The right size for little hands.
Our four-year-old talks of nothing else.
The whole kindergarten wants a {n} like ours now.
Got it for the nursery and the baby gazes at it happily.
My son, seven, picked it himself.
A hit in the kids' room.
She took the {n} to school and came back proud.
No sharp corners, so the little ones can have it.
Our six-year-old calls it the best {n} in the world.

No plastic in the parcel at all, only cardboard.
Glad that it is made from recycled stuff.
Leaves hardly any waste behind when its days are done.
Organic and fairly made, that matters to us.
I looked up where it comes from, a small workshop on green energy.
One more step to a greener household.
Can be repaired and need not be thrown away, the planet says thanks.
Low footprint, and the {n} is just as good.
Vegan, unbleached, nothing nasty in it.
Finally a {n} without virgin plastic.
They plant a tree in the rainforest for each {n}, which won me over.
Sustainable from the fibre to the label.

Ready in seconds.
Unpacked, in use, done, and no manual needed.
Wipe it once and you are done.
My mornings are quicker since I have the {n}.
No fiddling, it works at once.
Takes no minute to put away again.
Spares me half an hour of tidying a week.
For busy people, no assembly and no fuss.
I grab the {n} and run, nothing to prepare.
So quick to clean that I use it every day.
With three jobs I need things that are fast, and the {n} is.
One hand is enough for it, the other holds the phone.
"""
MISSED = """
Too dear for what it does.
I would have liked to pay less for a {n}.
Saw it on sale for far less a week later.
The bill hurt a little.
Not exactly a bargain.
Rather expensive, all in all.

Too heavy for a long hike.
I would not trust the {n} on a windy summit.
Soaked after one shower at the campsite.
Not made for the trail.
It does not clip on to my trekking gear.
The first drizzle in the forest was too much for it.

The wrapping was torn, awkward for a birthday.
No ribbon, so I had to wrap it myself.
A bit ordinary as a present.
Arrived a day after the party.
She smiled politely when she unwrapped the {n}.
The card with my greeting was missing.

The {n} looks drab next to my other things.
The design is dull.
Ugly details right where you look.
The pattern is not as pretty as I hoped.
A bit old-fashioned to my eye.
The shade clashes with everything I own.

A corner cracked within a month.
Something came loose in the second week.
Feels flimsy.
It wobbles and creaks already.
Scratches if you only look at it.
The {n} broke when it fell down once.

Too big for little hands.
My son lost interest after a day.
The toddler could pull a part off.
Not made for the nursery.
My daughter cannot open it alone.
The kids find the {n} boring.

Came in three layers of plastic.
I doubt that it can be recycled.
Smells of chemicals.
Flown half around the planet, as I read later.
Not a word on the footprint or on where the fibre comes from.
A lot of packaging waste for one {n}.

Took me an hour to put together.
Fiddly to clean.
The {n} needs too many steps every morning.
Slow to set up.
The manual has twenty pages, I gave up.
You need both hands and a lot of patience.
"""
TALK = """
Delivery took a day longer than promised.
Arrived on Tuesday as announced.
Does what it should.
No complaints.
It is a {n}, what more can I say.
Okay so far.
The courier left it with the people next door.
Customer service answered politely.
Would order here again.
Exactly as described.
My second order from this shop.
I had expected it to be a little bigger.
The tracking number did not work, the {n} came anyway.
Bought it on a whim.
"""
BEFORE = (*[""] * 9, "So far so good. ", "After two weeks: ", "Honest opinion: ", "Update: ", "In short: ")
GLAD = (*[""] * 9, " Recommended.", " Happy with it.", " Would buy it again.", " Thank you!", " Five out of five.")
MIXED = (*[""] * 9, " Keeping it all the same.", " Three out of five.", " I have seen worse.", " Could be better.")


@cache
def sentences() -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """Praise by motive, what is missed by motive, and small talk; all with {n} for the product's noun."""
    praise, missed = (tuple(tuple(p.splitlines()) for p in t.strip().split("\n\n")) for t in (PRAISE, MISSED))
    return praise, missed, tuple(TALK.strip().splitlines())


@cache
def signs() -> tuple[frozenset[str], ...]:
    """By motive: the words that sentences about it use and no other sentence does."""
    praise, missed, talk = sentences()
    said = [set(words(" ".join(p + m))) for p, m in zip(praise, missed, strict=True)]
    small = set(words(" ".join(talk + BEFORE + GLAD + MIXED)))
    return tuple(
        frozenset(own - small.union(*(other for k, other in enumerate(said) if k != motive)))
        for motive, own in enumerate(said)
    )


def write(
    about: np.ndarray, praised: np.ndarray, second: np.ndarray, liked: np.ndarray, noun: np.ndarray, seed: int
) -> np.ndarray:
    """Reviews, one array operation a part. (N,) object: str, or None where about is SILENT

    about, second: (N,) the motive of the first and of the second sentence; SMALL_TALK for none in particular, SILENT
    for no sentence. praised, liked: (N,) bool, whether that sentence is glad. noun: (N,) rows of `nouns()`.
    """
    rng = np.random.default_rng([seed, 7])
    table, starts, lengths = _table()
    reviews = np.full(len(about), None, object)
    told = np.flatnonzero(about != SILENT)

    def part(motive: np.ndarray, glad: np.ndarray) -> np.ndarray:
        row = np.where(motive == SMALL_TALK, 2 * len(MOTIVES), motive + np.where(glad, 0, len(MOTIVES)))
        return table[starts[row] + (rng.random(len(row)) * lengths[row]).astype(np.int64), noun[told]]

    text = _extra(BEFORE, len(told), rng) + part(about[told], praised[told])
    more = np.flatnonzero(second[told] != SILENT)
    text[more] += " " + part(np.maximum(second[told], SMALL_TALK), liked[told])[more]
    glad = np.where(second == SILENT, praised, liked)[told]  # the parting word goes with the sentence before it
    reviews[told] = text + np.where(glad, _extra(GLAD, len(told), rng), _extra(MIXED, len(told), rng))
    return reviews


@cache
def nouns() -> tuple[str, ...]:
    """The short nouns that reviews use: the last word of what titles say."""
    return tuple(dict.fromkeys(noun.split()[-1] for c in categories() for names in c.nouns for noun in names))


@cache
def _table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every sentence with every noun. (S, nouns) object, and where each group starts and how long it is: praise by
    motive, then what is missed by motive, then small talk."""
    praise, missed, talk = sentences()
    groups = [*praise, *missed, talk]
    flat = [line for group in groups for line in group]
    table = np.array([[line.format(n=noun).replace(" a u", " an u") for noun in nouns()] for line in flat], object)
    lengths = np.array([len(group) for group in groups])
    return table, np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths


def _extra(choices: tuple[str, ...], count: int, rng: np.random.Generator) -> np.ndarray:
    return np.array(choices, object)[rng.integers(0, len(choices), count)]


def words(text: str) -> list[str]:
    """Lower-case words of three letters and more."""
    return re.findall(r"[a-z]{3,}", text.lower().replace("{n}", " "))
