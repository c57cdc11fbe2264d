"""Open-ended instructions whose form can be checked: many answers are right, and code says whether one is.

"List three birds, in capital letters, separated by semicolons." An expert made of code draws its answer from a list;
a model may name others. So held-out likelihood has a floor that nobody gets below, and the check looks at the form
alone: how many items, what is between them, their order, their case, none twice.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass

from tspin_mlx.base.errors import DataError

CATEGORIES = {
    "fruits": "apple banana cherry date fig grape kiwi lemon mango orange papaya peach pear plum quince",
    "vegetables": "beet cabbage carrot celery garlic kale leek lettuce onion parsnip pea potato pumpkin radish spinach",
    "birds": "crow dove duck eagle falcon goose gull hawk heron owl parrot raven robin sparrow swan",
    "animals": "badger bear camel deer fox goat horse lion mouse otter rabbit sheep tiger wolf zebra",
    "trees": "alder ash beech birch cedar elm fir larch maple oak pine poplar spruce willow yew",
    "colours": "black blue brown green grey orange pink purple red scarlet silver turquoise violet white yellow",
    "instruments": "accordion banjo cello clarinet cymbal drum flute guitar harp oboe organ piano trumpet viola violin",
    "tools": "axe chisel clamp drill file hammer knife ladder mallet pliers saw screwdriver shovel spanner wrench",
    "drinks": "beer cider cocoa coffee cola gin juice lemonade milk rum soda tea water whisky wine",
    "garments": "belt blouse boots cap coat dress glove hat jacket scarf shirt shoe skirt sock tie",
    "jobs": "actor baker barber butcher carpenter cook doctor farmer judge lawyer nurse painter pilot tailor teacher",
    "metals": "aluminium brass bronze chromium copper gold iron lead mercury nickel platinum silver steel tin zinc",
    "furniture": "armchair bed bench bureau cabinet chair chest cupboard desk dresser shelf sofa stool table wardrobe",
    "vehicles": "ambulance bicycle bus car ferry helicopter lorry motorcycle plane rocket ship train tram truck van",
}  # fmt: skip

COUNTS = {"two": 2, "three": 3, "four": 4}
SEPARATORS = {"commas": ", ", "semicolons": "; ", "slashes": " / ", "plus signs": " + ", "the word 'or'": " or "}
CASES: dict[str, Callable[[str], str]] = {"": str, "capital letters": str.upper, "small letters": str.lower}
ORDERS = ("", "alphabetical order", "reverse alphabetical order")
VERBS = ("Name", "List", "Give me")

SYSTEM = "Follow the instruction exactly."


@dataclass(frozen=True)
class Form:
    """What an answer has to look like: keys of ``COUNTS``, ``SEPARATORS`` and ``CASES``, one of ``ORDERS``."""

    count: str
    separator: str
    case: str
    order: str

    def fits(self, text: str) -> bool:
        """Whether a text has the form.

        ``Form("two", "commas", "", "alphabetical order")`` fits "ash, oak" and "Ash, oak"; not "oak, ash", "ash,oak",
        "ash, ash" or "ash, oak, pine".
        """
        items = text.strip().split(SEPARATORS[self.separator])
        plain = [item.lower() for item in items]
        ordered = sorted(plain, reverse=self.order.startswith("reverse")) if self.order else plain
        return (
            len(set(plain)) == len(items) == COUNTS[self.count]
            and all(item.replace(" ", "").replace("-", "").isalpha() for item in items)
            and plain == ordered
            and text.strip() == _joined([CASES[self.case](item) for item in items], self)
        )


def examples(train: int, validation: int, test: int, seed: int) -> dict[str, list[dict[str, str]]]:
    """So many distinct instructions of each split, 5670 at most, with the expert's responses; ``answer`` is the
    :class:`Form`, as JSON.

    Raises:
        DataError: there are not so many.
    """
    rng = random.Random(seed)
    forms = [Form(*parts) for parts in itertools.product(COUNTS, SEPARATORS, CASES, ORDERS)]
    possible = list(itertools.product(VERBS, CATEGORIES, forms))
    if (wanted := train + validation + test) > len(possible):
        raise DataError(f"there are {len(possible)} instructions, not {wanted}")
    chosen = rng.sample(possible, wanted)
    rows = [_row(verb, category, form, rng) for verb, category, form in chosen]
    return {
        "train": rows[:train],
        "validation": rows[train : train + validation],
        "test": rows[train + validation :],
    }


def fits(answer: str, text: str) -> bool:
    """Whether a text has the form that an example's ``answer`` tells of."""
    return Form(**json.loads(answer)).fits(text)


def _row(verb: str, category: str, form: Form, rng: random.Random) -> dict[str, str]:
    wishes = [f"in {wish}" for wish in (form.order, form.case) if wish] + [f"separated by {form.separator}"]
    rng.shuffle(wishes)
    prompt = f"{verb} {form.count} {category}, {', '.join(wishes)}."
    items = rng.sample(CATEGORIES[category].split(), COUNTS[form.count])
    if form.order:
        items.sort(reverse=form.order.startswith("reverse"))
    response = _joined([CASES[form.case](item) for item in items], form)
    return {"system": SYSTEM, "prompt": prompt, "response": response, "answer": json.dumps(asdict(form))}


def _joined(items: list[str], form: Form) -> str:
    return SEPARATORS[form.separator].join(items)
