"""Card payments as the model sees them: typed fields, velocity windows, splits by customer and by time.

The default rows come from `simulator`. Windows look back only: a payment's own amount and label are in none of them,
and a terminal's frauds count from the day they would have been reported. The bank that scores sees every payment, so
windows span all customers of a terminal; a customer's own rows stand in one split only.
"""

import numpy as np

from models.evaluate import Cost
from models.task import Booleans, Declaration, FloatMatrix, Floats, Integers, Rows, Splits
from models.transaction.simulator import AGE_BANDS, ENTRY_MODES, MERCHANT_CATEGORIES, REGIONS, Payments, simulate
from service.manifest import Feature, SensitiveFeature

SEED = 7
WINDOWS_DAYS = (1, 7, 30)
REPORTING_DELAY_DAYS = 7

CUSTOMER_SHARES = (0.45, 0.25, 0.30)
# The first 30 days only fill the windows; the gaps are one reporting delay, in which a label would not yet be known.
SPLIT_DAYS = ((30, 90), (97, 132), (139, 180))

INVESTIGATION_EUR = 10.0


def _window_features() -> list[Feature]:
    def count(name: str, description: str, reason: str) -> Feature:
        return Feature(name=name, kind="integer", minimum=0, maximum=1_000_000, description=description, reason=reason)

    last = [(days, f"{days} {'day' if days == 1 else 'days'}") for days in WINDOWS_DAYS]
    return [
        *(
            count(
                f"customer_count_{days}d",
                f"The customer's payments in the last {words}.",
                f"number of the customer's payments in the last {words}: {{value}}",
            )
            for days, words in last
        ),
        *(
            Feature(
                name=f"customer_mean_amount_{days}d",
                kind="numeric",
                unit="EUR",
                minimum=0,
                maximum=1_000_000,
                nullable=True,
                description=f"Mean amount of the customer's payments in the last {words}; null where there was none.",
                reason=f"the customer's usual amount in the last {words}: {{value}}",
            )
            for days, words in last
        ),
        *(
            count(
                f"terminal_count_{days}d",
                f"Payments at the terminal in the last {words}.",
                f"number of payments at the terminal in the last {words}: {{value}}",
            )
            for days, words in last
        ),
        *(
            Feature(
                name=f"terminal_fraud_share_{days}d",
                kind="numeric",
                minimum=0,
                maximum=1,
                nullable=True,
                description=f"Share of fraud among the terminal's payments in the {words} that ended "
                f"{REPORTING_DELAY_DAYS} days ago, when their reports were in; null where there was none.",
                reason=f"reported fraud at the terminal over {words}, as a share of its payments: {{value}}",
            )
            for days, words in last
        ),
    ]


DECLARATION = Declaration(
    name="transaction",
    description="Is a card payment fraudulent? From the payment and what the card and the terminal did before.",
    classes=("legitimate", "fraud"),
    favourable_outcome="legitimate",
    features=[
        Feature(
            name="amount",
            kind="numeric",
            unit="EUR",
            minimum=0,
            maximum=1_000_000,
            description="To be paid.",
            reason="the amount: {value}",
        ),
        Feature(
            name="hour",
            kind="integer",
            minimum=0,
            maximum=23,
            description="Local hour of the payment.",
            reason="the hour of the payment: {value}",
        ),
        Feature(name="weekend", kind="binary", description="1 on Saturday and Sunday.", reason="weekend: {value}"),
        Feature(
            name="merchant_category",
            kind="categorical",
            categories=list(MERCHANT_CATEGORIES),
            description="What the merchant sells.",
            reason="the merchant's trade: {value}",
        ),
        Feature(
            name="entry_mode",
            kind="categorical",
            categories=list(ENTRY_MODES),
            description="How the card was read.",
            reason="how the card was read: {value}",
        ),
        Feature(
            name="cross_border",
            kind="binary",
            description="1 if merchant and card are of different countries.",
            reason="a payment across a border: {value}",
        ),
        Feature(
            name="days_since_last_payment",
            kind="numeric",
            unit="days",
            minimum=0,
            maximum=36_500,
            nullable=True,
            description="Time since the customer's payment before this one; null for a first payment.",
        ),
        *_window_features(),
    ],
    sensitive_features=[
        SensitiveFeature(name="age_band", groups=list(AGE_BANDS), reference_group="30-49"),
        SensitiveFeature(name="region", groups=list(REGIONS), reference_group="centre"),
    ],
    intersections=[["age_band", "region"]],
)


def lost_amount(rows: Rows, column: int) -> Floats:
    """What each row `(n,)` costs the bank if it is fraud and passes: the amount in EUR, from `column` of `X`."""
    return rows.X[:, column].astype(np.float64)


COST = Cost(
    alarm=INVESTIGATION_EUR,
    missed=lambda rows: lost_amount(rows, 0),
    unit="EUR",
    stated=f"every alarm costs an investigation of {INVESTIGATION_EUR:g} EUR, every missed fraud its amount",
)


def load_splits() -> Splits:
    """About 102,000 training, 33,000 validation and 46,000 held-out payments; no customer or day is in two."""
    customers, payments = simulate(SEED)
    X = to_matrix(payments)
    rows = Rows(
        X,
        payments.fraud,
        {
            "age_band": np.array(AGE_BANDS)[customers.age[payments.customer]],
            "region": np.array(REGIONS)[customers.region[payments.customer]],
        },
    )
    training, validation, held_out = (rows.take(mask) for mask in split_masks(payments, len(customers.age)))
    return Splits(training, validation, held_out)


def split_masks(payments: Payments, customers: int) -> list[Booleans]:
    """Which payments `(n,)` belong to training, validation and held-out: no customer and no day is in two of them."""
    # A stream of its own: with the simulator's, a customer's split would follow from the age band.
    rng = np.random.default_rng([SEED, 1])
    split_of_customer = rng.choice(len(CUSTOMER_SHARES), customers, p=CUSTOMER_SHARES)
    return [
        (split_of_customer[payments.customer] == split) & (payments.time_days >= start) & (payments.time_days < end)
        for split, (start, end) in enumerate(SPLIT_DAYS)
    ]


def to_matrix(payments: Payments) -> FloatMatrix:
    """`X` `(n, d)` of `payments`, which are in order of time, in the order of `DECLARATION.features`."""
    hour = np.floor(payments.time_days % 1 * 24)
    weekend = np.floor(payments.time_days) % 7 >= 5
    columns = [payments.amount, hour, weekend, payments.category, payments.entry_mode, payments.cross_border]
    columns.append(_days_since_last(payments))
    at_customer = [_window(payments.customer, payments.time_days, payments.amount, days) for days in WINDOWS_DAYS]
    columns += [count for count, _ in at_customer] + [mean for _, mean in at_customer]
    at_terminal = [_window(payments.terminal, payments.time_days, payments.amount, days) for days in WINDOWS_DAYS]
    columns += [count for count, _ in at_terminal]
    fraud = payments.fraud.astype(np.float64)
    columns += [
        _window(payments.terminal, payments.time_days, fraud, days, delay_days=REPORTING_DELAY_DAYS)[1]
        for days in WINDOWS_DAYS
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _days_since_last(payments: Payments) -> Floats:
    order = np.lexsort((payments.time_days, payments.customer))
    gap = np.full(len(payments), np.nan)
    same = payments.customer[order][1:] == payments.customer[order][:-1]
    gap[order[1:]] = np.where(same, np.diff(payments.time_days[order]), np.nan)
    return gap


def _window(
    entity: Integers, time_days: Floats, value: Floats, width_days: float, *, delay_days: float = 0.0
) -> tuple[Floats, Floats]:
    """Count `(n,)` and mean of `value` `(n,)` over the same entity's rows in [t - delay - width, t - delay), per row.

    The mean of no rows is NaN. One sort and two binary searches: entities lie on one axis, too far apart to meet.
    """
    apart = float(np.ceil(time_days.max() + width_days + delay_days + 1))
    place = entity * apart + time_days
    order = np.argsort(place, kind="stable")
    ordered = place[order]
    start = np.searchsorted(ordered, place - delay_days - width_days, side="left")
    end = np.searchsorted(ordered, place - delay_days, side="left")
    total = np.concatenate([[0.0], np.cumsum(value[order])])
    count = (end - start).astype(np.float64)
    mean = np.divide(total[end] - total[start], count, out=np.full(len(count), np.nan), where=count > 0)
    return count, mean
