"""Simulates half a year of card payments: customers, terminals, three kinds of fraud, and known disparities.

In the spirit of the simulator of Le Borgne, Siblini, Lebichot and Bontempi, "Reproducible Machine Learning for Credit
Card Fraud Detection" (2022, chapter 3), written anew and with groups. No row describes a real person.

Customers have an age band, a region, a payment rate, a usual amount and habits (share online, at night, abroad).
Terminals stand in one of the regions, abroad, or are online shops; each has one merchant category. Fraud comes as

- stolen card: for three days somebody else pays with the card, in shops of the region, mostly without the chip, at any
  hour, with larger amounts;
- leaked card data: for a week online payments, mostly to foreign merchants, at any hour, three times the usual amount;
- skimmed terminal: for two weeks one payment in six at a terminal in a region is made with a copied card.

Injected disparities, each against the reference group of its feature:

- `age_band` 18-29, *behaviour*: 2.5 times the share of online and six times the share of night payments, and amounts
  that vary more. Genuine payments look more like fraud, so more are flagged; these customers are not defrauded more.
- `age_band` 50+, *risk*: card data leak four times as often (phishing). More of the payments are fraud.
- `region` border, *behaviour*: one genuine payment in four is foreign, elsewhere one in thirty.
- `region` coast, *risk*: terminals are skimmed four times as often. More of the payments are fraud.
"""

from dataclasses import dataclass

import numpy as np

from models.task import Booleans, Floats, Integers

CUSTOMERS = 10_000
DAYS = 180

AGE_BANDS = ("18-29", "30-49", "50+")
AGE_SHARES = (0.25, 0.40, 0.35)
REGIONS = ("centre", "coast", "border")
REGION_SHARES = (0.5, 0.3, 0.2)

# Where a terminal stands: a position in REGIONS, or one of these two.
FOREIGN, WEB = 3, 4
TERMINALS_PER_PLACE = (300, 180, 120, 130, 260)

# Roughly in the order in which the simulated fraudsters prefer them, so that a tree can cut between indices.
MERCHANT_CATEGORIES = ("health", "grocery", "restaurant", "fuel", "clothing", "travel", "electronics", "gift_cards")
CATEGORY_SHARES = (0.09, 0.34, 0.18, 0.12, 0.12, 0.06, 0.07, 0.02)
FRAUD_CATEGORY_WEIGHTS = (0.2, 0.3, 0.3, 0.7, 1.5, 2.0, 4.0, 8.0)
# Usual amount relative to the customer's own, per merchant category.
CATEGORY_AMOUNT = np.array([0.7, 0.8, 0.9, 1.1, 1.4, 3.0, 2.5, 1.2])
ENTRY_MODES = ("chip", "contactless", "magstripe", "online")
CHIP, CONTACTLESS, MAGSTRIPE, ONLINE = range(4)

# Many victims with few frauds each: what one victim suffers is no evidence about a group.
STOLEN_PER_CUSTOMER_DAY = 6e-4
LEAKED_PER_CUSTOMER_DAY = 4e-4
LEAKED_RISK_BY_AGE = np.array([1.0, 1.0, 4.0])
SKIMMED_PER_TERMINAL_DAY = 12e-4
SKIMMED_RISK_BY_REGION = np.array([1.0, 4.0, 1.0])


@dataclass(frozen=True)
class Customers:
    """Who pays, `(CUSTOMERS,)` each: positions in AGE_BANDS and REGIONS, payments a day, EUR, shares in [0, 1].

    `amount_spread` is the standard deviation of the logarithm of amounts.
    """

    age: Integers
    region: Integers
    payments_per_day: Floats
    usual_amount: Floats
    amount_spread: Floats
    online_share: Floats
    night_share: Floats
    foreign_share: Floats


@dataclass(frozen=True)
class Terminals:
    """Where is paid, one entry per terminal: its place, and a position in MERCHANT_CATEGORIES."""

    place: Integers
    category: Integers


@dataclass(frozen=True)
class Payments:
    """One column per fact, `(n,)` each. `time_days` counts from the first midnight, a Monday; `amount` is in EUR."""

    time_days: Floats
    customer: Integers
    terminal: Integers
    category: Integers
    entry_mode: Integers
    cross_border: Integers
    amount: Floats
    fraud: Integers

    def __len__(self) -> int:
        """How many payments."""
        return len(self.time_days)

    def take(self, index: Integers | Booleans) -> "Payments":
        """The payments at `index`, in that order."""
        return Payments(**{name: column[index] for name, column in vars(self).items()})


def simulate(seed: int) -> tuple[Customers, Payments]:
    """All payments in order of time; the same seed gives the same."""
    rng = np.random.default_rng(seed)
    customers, terminals = _customers(rng), _terminals(rng)
    genuine = _skim(rng, _genuine(rng, customers, terminals), terminals)
    parts = [genuine, _stolen(rng, customers, terminals), _leaked(rng, customers, terminals)]
    joined = Payments(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(genuine)})
    joined = joined.take(joined.time_days < DAYS)
    return customers, joined.take(np.argsort(joined.time_days, kind="stable"))


def _customers(rng: np.random.Generator) -> Customers:
    age = rng.choice(len(AGE_BANDS), CUSTOMERS, p=AGE_SHARES)
    region = rng.choice(len(REGIONS), CUSTOMERS, p=REGION_SHARES)
    young, border = age == AGE_BANDS.index("18-29"), region == REGIONS.index("border")
    return Customers(
        age=age,
        region=region,
        payments_per_day=rng.gamma(3.0, 0.13, CUSTOMERS),
        usual_amount=rng.lognormal(np.log(28.0), 0.5, CUSTOMERS),
        amount_spread=np.where(young, 0.8, 0.5),
        online_share=np.minimum(rng.beta(2, 10, CUSTOMERS) * np.where(young, 2.5, 1.0), 1.0),
        night_share=np.minimum(rng.beta(1, 30, CUSTOMERS) * np.where(young, 6.0, 1.0), 1.0),
        foreign_share=np.where(border, rng.beta(5, 15, CUSTOMERS), rng.beta(1, 29, CUSTOMERS)),
    )


def _terminals(rng: np.random.Generator) -> Terminals:
    place = np.repeat(np.arange(len(TERMINALS_PER_PLACE)), TERMINALS_PER_PLACE)
    return Terminals(place, rng.choice(len(MERCHANT_CATEGORIES), len(place), p=CATEGORY_SHARES))


def _genuine(rng: np.random.Generator, customers: Customers, terminals: Terminals) -> Payments:
    customer = np.repeat(np.arange(CUSTOMERS), rng.poisson(customers.payments_per_day * DAYS))
    n = len(customer)
    night = rng.random(n) < customers.night_share[customer]
    hour = np.where(night, rng.uniform(0, 6, n), 6 + 18 * rng.beta(2.2, 2.0, n))
    online = rng.random(n) < customers.online_share[customer]
    foreign = rng.random(n) < customers.foreign_share[customer]
    place = np.where(online, WEB, np.where(foreign, FOREIGN, customers.region[customer]))
    terminal = _choose_terminals(rng, terminals, place, weights=np.ones(len(MERCHANT_CATEGORIES)))
    in_shop = rng.choice([CHIP, CONTACTLESS, MAGSTRIPE], n, p=[0.42, 0.54, 0.04])
    return _payments(
        rng, customers, terminals, customer, terminal, rng.integers(0, DAYS, n) + hour / 24,
        entry_mode=np.where(online, ONLINE, in_shop), cross_border=foreign, amount_factor=1.0, fraud=0,
    )  # fmt: skip


def _skim(rng: np.random.Generator, payments: Payments, terminals: Terminals) -> Payments:
    """`payments`, some of them turned into fraud with a copied card at a skimmed terminal."""
    in_region = np.flatnonzero(terminals.place < len(REGIONS))
    risk = SKIMMED_PER_TERMINAL_DAY * DAYS * SKIMMED_RISK_BY_REGION[terminals.place[in_region]]
    skimmed = in_region[rng.random(len(in_region)) < risk]
    start = np.full(len(terminals.place), np.inf)
    start[skimmed] = rng.uniform(0, DAYS, len(skimmed))
    since = payments.time_days - start[payments.terminal]
    copied = (since >= 0) & (since < 14) & (rng.random(len(payments)) < 1 / 6)
    columns = dict(vars(payments))
    columns["fraud"] = np.where(copied, 1, payments.fraud)
    columns["entry_mode"] = np.where(copied & (rng.random(len(payments)) < 0.5), MAGSTRIPE, payments.entry_mode)
    columns["amount"] = np.where(copied, np.round(payments.amount * 1.5, 2), payments.amount)
    return Payments(**columns)


def _stolen(rng: np.random.Generator, customers: Customers, terminals: Terminals) -> Payments:
    victims = np.flatnonzero(rng.random(CUSTOMERS) < STOLEN_PER_CUSTOMER_DAY * DAYS)
    customer = np.repeat(victims, rng.poisson(3.0, len(victims)))
    n = len(customer)
    start = rng.uniform(0, DAYS, CUSTOMERS)[customer]
    terminal = _choose_terminals(rng, terminals, customers.region[customer], np.array(FRAUD_CATEGORY_WEIGHTS))
    return _payments(
        rng, customers, terminals, customer, terminal, start + rng.uniform(0, 3, n),
        entry_mode=rng.choice([CHIP, CONTACTLESS, MAGSTRIPE], n, p=[0.1, 0.55, 0.35]),
        cross_border=np.zeros(n, bool), amount_factor=2.0, fraud=1,
    )  # fmt: skip


def _leaked(rng: np.random.Generator, customers: Customers, terminals: Terminals) -> Payments:
    risk = LEAKED_PER_CUSTOMER_DAY * DAYS * LEAKED_RISK_BY_AGE[customers.age]
    victims = np.flatnonzero(rng.random(CUSTOMERS) < risk)
    customer = np.repeat(victims, rng.poisson(3.0, len(victims)))
    n = len(customer)
    start = rng.uniform(0, DAYS, CUSTOMERS)[customer]
    terminal = _choose_terminals(rng, terminals, np.full(n, WEB), np.array(FRAUD_CATEGORY_WEIGHTS))
    return _payments(
        rng, customers, terminals, customer, terminal, start + rng.uniform(0, 7, n),
        entry_mode=np.full(n, ONLINE), cross_border=rng.random(n) < 0.7, amount_factor=3.0, fraud=1,
    )  # fmt: skip


def _choose_terminals(rng: np.random.Generator, terminals: Terminals, place: Integers, weights: Floats) -> Integers:
    """A terminal `(n,)` at each `place` `(n,)`, drawn by the `weights` of its merchant category."""
    terminal = np.empty(len(place), np.int64)
    for where in np.unique(place):
        there = np.flatnonzero(terminals.place == where)
        share = weights[terminals.category[there]]
        chosen = place == where
        terminal[chosen] = rng.choice(there, int(chosen.sum()), p=share / share.sum())
    return terminal


def _payments(
    rng: np.random.Generator,
    customers: Customers,
    terminals: Terminals,
    customer: Integers,
    terminal: Integers,
    time_days: Floats,
    *,
    entry_mode: Integers,
    cross_border: Booleans,
    amount_factor: float,
    fraud: int,
) -> Payments:
    """Payments with log-normal amounts around the customer's usual one, in cents."""
    category = terminals.category[terminal]
    centre = customers.usual_amount[customer] * CATEGORY_AMOUNT[category] * amount_factor
    return Payments(
        time_days=time_days,
        customer=customer,
        terminal=terminal,
        category=category,
        entry_mode=entry_mode,
        cross_border=cross_border.astype(np.int64),
        amount=np.maximum(np.round(centre * rng.lognormal(0.0, customers.amount_spread[customer]), 2), 0.5),
        fraud=np.full(len(customer), fraud, np.int64),
    )
