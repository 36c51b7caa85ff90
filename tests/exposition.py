"""Reading `/metrics` as a scraper does."""

from prometheus_client.parser import text_string_to_metric_families


def samples(text):
    """Every sample of an exposition: {(name, ((label, value), ...)): number}, labels sorted by name."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def series(text):
    """The exposition without its numbers: names and labels."""
    return "\n".join(line.rsplit(" ", 1)[0] for line in text.splitlines())


def value(text, name, **labels):
    """The value of one series; None where there is no such series."""
    return samples(text).get((name, tuple(sorted(labels.items()))))


def total(text, name, **labels):
    """The sum of all series that have these labels, and perhaps others."""
    return sum(
        number for (found, pairs), number in samples(text).items() if found == name and labels.items() <= set(pairs)
    )
