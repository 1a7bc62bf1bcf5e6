"""What goals are called: our own sentences, with slots for colours and sides.

There are as many patterns as published benchmarks of this table have, built alike: 18 for training, 40 rephrasings in four families, each of which is used
for one side alone, 20 for each side of the easy level, 6 of several parts, and 20 each for gathering and lining up. None is taken from them.
"""

from __future__ import annotations

import numpy as np

from lago_skills.worlds.ball_push.balls import COLOURS
from lago_skills.worlds.ball_push.goals import Goal, Part

SIDE_PHRASES = ("behind", "to the left of", "in front of", "to the right of")

TRAINING = (
    "Push the {a} ball {side} the {b} ball.",
    "Move the {a} ball {side} the {b} ball.",
    "Keep the {a} ball {side} the {b} ball.",
    "Can you push the {a} ball {side} the {b} ball?",
    "Can you move the {a} ball {side} the {b} ball?",
    "Can you keep the {a} ball {side} the {b} ball?",
    "Can you help me push the {a} ball {side} the {b} ball?",
    "Can you help me move the {a} ball {side} the {b} ball?",
    "Can you help me keep the {a} ball {side} the {b} ball?",
    "Is the {a} ball {side} the {b} ball?",
    "Does the {a} ball lie {side} the {b} ball?",
    "The {a} ball has to be pushed {side} the {b} ball.",
    "The {a} ball has to be moved {side} the {b} ball.",
    "The {a} ball is being pushed {side} the {b} ball.",
    "The {a} ball is being moved {side} the {b} ball.",
    "The {a} ball was pushed {side} the {b} ball.",
    "The {a} ball was moved {side} the {b} ball.",
    "The {a} ball was kept {side} the {b} ball.",
)

REPHRASED: dict[str, tuple[str, ...]] = {
    "behind": (  # somebody is annoyed by the ball's being in front
        "It annoys me that the {a} ball is in front of the {b} one; turn that around.",
        "I cannot stand the {a} ball blocking the view of the {b} ball, put it at the back.",
        "Why does the {a} ball stand before the {b} ball again? Change their order, please.",
        "That the {a} ball is nearer to me than the {b} ball gets on my nerves. Reverse it.",
        "What a nuisance, the {a} ball hides the {b} ball. Have it the other way about.",
        "I am fed up with the {a} ball ahead of the {b} ball; let them change places.",
        "It bothers me to see the {a} ball first and the {b} ball second. Make it second.",
        "The {a} ball in front of the {b} ball is an eyesore, the {b} ball belongs in front.",
        "Take the {a} ball out of the {b} ball's way, I hate having it in front.",
        "I would be less cross if the {a} ball were at the {b} ball's back.",
    ),
    "left": (  # a manner: gently or in haste
        "Gently nudge the {a} ball until it is on the left of the {b} ball.",
        "Quickly shove the {a} ball over to the left side of the {b} ball.",
        "Ease the {a} ball softly to the left hand of the {b} ball.",
        "In a hurry, get the {a} ball to the {b} ball's left.",
        "Slowly and with care, slide the {a} ball leftwards past the {b} ball.",
        "Hastily bring the {a} ball round to the left of the {b} ball.",
        "With a light touch, let the {a} ball drift to the left of the {b} ball.",
        "Rush the {a} ball to the spot left of the {b} ball.",
        "Coax the {a} ball tenderly to where it has the {b} ball on its right.",
        "Without delay, sweep the {a} ball to the left of the {b} ball.",
    ),
    "front": (  # force, and other words for balls
        "Thrust the {a} sphere forward of the {b} sphere.",
        "Propel the {a} orb to the front of the {b} orb.",
        "Drive the {a} sphere ahead of the {b} orb.",
        "Launch the {a} globe so that it stops before the {b} globe.",
        "Hurl the {a} orb to a place in front of the {b} sphere.",
        "Force the {a} globe to the near side of the {b} orb.",
        "Ram the {a} sphere forwards until it leads the {b} sphere.",
        "Fling the {a} orb to the fore of the {b} globe.",
        "Impel the {a} globe towards us, past the {b} sphere.",
        "Punch the {a} sphere through to the front of the {b} orb.",
    ),
    "right": (  # somebody is glad
        "How delightful it would be to have the {a} ball on the right of the {b} ball.",
        "It makes me happy when the {a} ball rests at the right side of the {b} ball.",
        "I smile whenever the {a} ball is the {b} ball's neighbour on the right.",
        "What a joy, the {a} ball right of the {b} ball!",
        "Nothing cheers me up like the {a} ball to the right hand of the {b} ball.",
        "I should be pleased to find the {a} ball rightwards of the {b} ball.",
        "My heart leaps when the {b} ball has the {a} ball at its right.",
        "It would be lovely if the {a} ball sat on the right, beside the {b} ball.",
        "You would make my day with the {a} ball right next to, and right of, the {b} ball.",
        "I adore seeing the {a} ball on the right flank of the {b} ball.",
    ),
}
"""Ten for each side, from which the side can be told by the manner of speaking alone."""

_EASY_FORMS = (
    "Move the {a} ball {to}.",
    "Push the {a} ball {to}.",
    "Shift the {a} ball {to}.",
    "Roll the {a} ball {to}.",
    "Please move the {a} ball {to}.",
    "Please push the {a} ball {to}.",
    "Could you move the {a} ball {to}?",
    "Could you push the {a} ball {to}?",
    "Would you shift the {a} ball {to} for me?",
    "Give the {a} ball a push {to}.",
    "Make the {a} ball go {to}.",
    "Let the {a} ball travel {to}.",
    "The {a} ball should go {to}.",
    "The {a} ball needs to move {to}.",
    "I want the {a} ball pushed {to}.",
    "I would like to see the {a} ball move {to}.",
    "Send the {a} ball {to}.",
    "Get the {a} ball moving {to}.",
    "Take the {a} ball and move it {to}.",
    "Nudge the {a} ball a little {to}.",
)
_EASY_WAYS = (
    ("backward", "to the back"),
    ("to the left", "leftward"),
    ("forward", "ahead"),
    ("to the right", "rightward"),
)
EASY: tuple[tuple[str, ...], ...] = tuple(
    tuple(form.replace("{to}", ways[number % 2]) for number, form in enumerate(_EASY_FORMS)) for ways in _EASY_WAYS
)
"""Twenty for each side."""

SEVERAL = (
    "push the {a} ball {side} the {b} ball",
    "move the {a} ball {side} the {b} ball",
    "keep the {a} ball {side} the {b} ball",
    "bring the {a} ball {side} the {b} ball",
    "get the {a} ball to lie {side} the {b} ball",
    "see that the {a} ball is {side} the {b} ball",
)
"""Joined by "and"."""

LINE_UP = (
    "Line the balls up from left to right: red, blue, green, purple, cyan.",
    "Put the balls in a row, red first on the left, then blue, green, purple and cyan.",
    "Arrange red, blue, green, purple and cyan in this order from the left.",
    "Make one row of all balls: red, blue, green, purple, cyan.",
    "Sort the balls along a line, with red leftmost and cyan rightmost, blue, green and purple between them.",
    "Form a line that reads red, blue, green, purple, cyan.",
    "From the left, let red, blue, green, purple and cyan follow one another.",
    "Set up the balls side by side in the order red, blue, green, purple, cyan.",
    "Queue the balls: red at the left end, next blue, next green, next purple, cyan last.",
    "I want a row of balls, and its colours are red, blue, green, purple, cyan.",
    "Each ball stands to the right of the one before: red, blue, green, purple, cyan.",
    "Could you put the balls into a line, red, blue, green, purple, cyan?",
    "Please range the five balls by colour from left to right: red, blue, green, purple, cyan.",
    "Build a chain of balls across the table, red, blue, green, purple, cyan.",
    "The balls should end up abreast, in the order red, blue, green, purple, cyan.",
    "Right of red goes blue, right of blue green, right of green purple, right of purple cyan.",
    "Order the balls sideways, beginning with red and ending with cyan, by way of blue, green and purple.",
    "Spread the balls out in one line: red, blue, green, purple, cyan.",
    "Have the red, blue, green, purple and cyan balls lie in a horizontal row, in this order.",
    "A line from left to right is needed, namely red, blue, green, purple, cyan.",
)

GATHER = (
    "Gather all balls around the green ball.",
    "Bring the other balls close to the green one.",
    "Make a circle of balls about the green ball.",
    "Collect the red, blue, purple and cyan balls at the green ball.",
    "Let every ball crowd around the green ball.",
    "Surround the green ball with the four others.",
    "The green ball should be in the middle, and all others next to it.",
    "Huddle the balls together, green at the centre.",
    "Push everything up to the green ball.",
    "All balls shall touch, or nearly touch, the green ball.",
    "Put the green ball at the heart of a ring of balls.",
    "Close in on the green ball with red, blue, purple and cyan.",
    "Could you bring the balls together around green?",
    "Please assemble the balls near the green ball.",
    "I want the green ball encircled by the other balls.",
    "Pile up the balls about the green one.",
    "Form a ring around the green ball.",
    "Move red, blue, purple and cyan until each is beside green.",
    "Cluster the balls at the green ball.",
    "Have the green ball hemmed in on all sides by the rest.",
)


def sentences(level: str, goal: Goal) -> tuple[str, ...]:
    """All sentences of a level that ask for a goal; of several parts, those in which all parts have one pattern.

    Raises:
        ValueError: the level has no such goals.
    """
    kind = "pair" if level == "rephrased" else level
    if kind != goal.kind:
        raise ValueError(
            f"found level {level!r} and a goal of kind {goal.kind!r}; expected one of kind {kind!r}; correct one of them"
        )
    if level == "line-up":
        return LINE_UP
    if level == "gather":
        return GATHER
    (first, *_) = goal.parts
    if level in ("two", "three"):
        return tuple(_joined([_filled(pattern, part) for part in goal.parts]) for pattern in SEVERAL)
    patterns = {"pair": TRAINING, "rephrased": tuple(REPHRASED.values())[first.how], "easy": EASY[first.how]}[level]
    return tuple(_filled(pattern, first) for pattern in patterns)


def draw_sentence(level: str, goal: Goal, rng: np.random.Generator) -> str:
    """One of the sentences of a level that ask for a goal; of several parts, each part has a pattern of its own.

    Raises:
        ValueError: the level has no such goals.
    """
    known = sentences(level, goal)
    if level in ("two", "three"):
        return _joined([_filled(SEVERAL[int(rng.integers(len(SEVERAL)))], part) for part in goal.parts])
    return known[int(rng.integers(len(known)))]


def _filled(pattern: str, part: Part) -> str:
    reference = COLOURS[part.reference] if part.reference >= 0 else ""
    return pattern.format(a=COLOURS[part.moved], b=reference, side=SIDE_PHRASES[part.how])


def _joined(clauses: list[str]) -> str:
    text = " and ".join(clauses)
    return f"{text[0].upper()}{text[1:]}."
