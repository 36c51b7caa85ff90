"""Writes card.md of a model that was trained elsewhere: figures where there are some, and plainly what is not known."""

from collections.abc import Sequence
from pathlib import Path
from string import Template

from models.card import INTERVALS, estimate, group_tables, paragraph, percent, table
from models.packaging.agreement import Answers
from models.packaging.explanations import explanation_card
from models.packaging.findings import Findings
from models.packaging.quality import Assessment, Multiclass
from models.task import Declaration
from service.manifest import Feature, Manifest

TEMPLATE = Path(__file__).with_name("card.md")
MAYBE_TRAINING = (
    "**These rows may be the ones that the model was trained on**: nobody said that they were held out, so every "
    "figure here may be better than what callers will see. Package again with held-out rows and `--held-out`."
)
HELD_OUT = "Whoever packaged the model stated that it has not seen these rows in training (`--held-out`)."
NO_LABELS = "The data came without labels: **nothing is known about the quality of this model.**"
NO_GROUPS = "No sensitive feature was named: **no disparity was measured, and none can be watched in use.**"


def write_card(
    manifest: Manifest,
    declaration: Declaration,
    answers: Answers,
    assessment: Assessment | None,
    findings: Findings,
    producer: str,
) -> str:
    """The card as Markdown."""
    n = len(answers)
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=manifest.name,
        description=paragraph(manifest.description),
        outcome=paragraph(_outcome(manifest)),
        producer=producer,
        understood=table(["What", "Found"], [[escaped(a), escaped(b)] for a, b in findings.understood]),
        agreement=paragraph(_agreement(answers)),
        assumed=bullets("Assumed, because nothing said otherwise:", findings.assumed),
        warned=bullets("To be warned of:", findings.warnings),
        not_found=bullets("Not found:", findings.not_found),
        data=_data(n, assessment),
        features=feature_table(manifest.features),
        quality=NO_LABELS if assessment is None else _quality(declaration, assessment),
        groups=_groups(declaration, assessment),
        explanations=explanation_card(manifest.explainer, manifest.features),
        n=n,
        provenance=paragraph(
            f"Digest of the given file: `{manifest.provenance.metrics['given_model']}`. Data fingerprint (rows, labels "
            f"and groups): `{manifest.provenance.data_fingerprint}`."
        ),
    )


def escaped(text: str) -> str:
    """`text` for a cell of a Markdown table."""
    return text.replace("|", "\\|")


def bullets(title: str, sentences: Sequence[str]) -> str:
    """`title` and a list, or a line that says there is nothing."""
    if not sentences:
        return f"{title} nothing."
    return "\n".join([title, "", *(f"- {sentence}" for sentence in sentences)])


def _outcome(manifest: Manifest) -> str:
    classes = ", ".join(f"`{label}`" for label in manifest.classes)
    positive, favourable = manifest.positive_class, manifest.favourable_outcome
    text = f"The classes are {classes}; positive is `{positive}`, favourable `{favourable}`."
    if manifest.threshold is None:
        return f"{text} A row gets the class with the largest probability."
    return (
        f"{text} A row is called `{positive}` when its probability is at least **{manifest.threshold:g}**. "
        "Whether that threshold suits the costs of a mistake was not examined here."
    )


def _agreement(answers: Answers) -> str:
    parts = {"margin": answers.margin_error, "probability": answers.probability_error}
    figures = " and ".join(f"{error:.1e} in {what}" for what, error in parts.items() if error is not None)
    return f"On all {len(answers)} rows the packaged graph differs from the given one by at most {figures}."


def _data(n: int, assessment: Assessment | None) -> str:
    if assessment is None:
        return paragraph(f"{n} rows, without labels.")
    share = percent(assessment.positives / n)
    words = f"{n} rows, {assessment.positives} of them positive ({share})."
    return f"{paragraph(words)}\n\n{paragraph(HELD_OUT if assessment.held_out else MAYBE_TRAINING)}"


def feature_table(features: Sequence[Feature]) -> str:
    """What callers send: name, kind, what is possible."""
    rows = [[f"`{escaped(feature.name)}`", feature.kind, escaped(possible(feature))] for feature in features]
    return table(["Feature", "Kind", "Possible"], rows)


def possible(feature: Feature) -> str:
    """The declared range or categories in words."""
    if feature.categories is not None:
        text = ", ".join(feature.categories[:8])
        text += f" and {len(feature.categories) - 8} more" if len(feature.categories) > 8 else ""
    elif feature.kind == "binary":
        text = "0 or 1"
    elif feature.minimum is None and feature.maximum is None:
        text = "any; no range declared"
    else:
        low = "" if feature.minimum is None else f"from {feature.minimum:g} "
        text = f"{low}{'' if feature.maximum is None else f'to {feature.maximum:g}'}".strip()
    return f"{text}{f' {feature.unit}' if feature.unit else ''}{', or missing' if feature.nullable else ''}"


def _quality(declaration: Declaration, found: Assessment) -> str:
    rows = [
        ["AUROC", estimate(found.auroc)],
        ["Average precision", estimate(found.average_precision)],
        ["Brier score (lower is better)", f"{found.brier:.4f}"],
        ["Calibration error (lower is better)", f"{found.calibration_error:.4f}"],
    ]
    negative, positive = declaration.classes
    counts = found.confusion
    grid = table(
        ["Rows", f"called {positive}", f"called {negative}"],
        [
            [f"are {positive}", f"{counts.true_positive}", f"{counts.false_negative}"],
            [f"are {negative}", f"{counts.false_positive}", f"{counts.true_negative}"],
        ],
    )
    about = f"`{positive}` against all others" if found.multiclass else f"`{positive}`"
    parts = [_classes(found.multiclass)] if found.multiclass else []
    parts += [table([f"About {about}", "Value"], rows), grid, paragraph(INTERVALS)]
    parts.append(f"The largest absolute margin is {found.largest_margin:.2f}.")
    return "\n\n".join(parts)


def _classes(found: Multiclass) -> str:
    grid = table(
        ["Rows", *(f"called {name}" for name in found.classes)],
        [[f"are {name}", *map(str, row)] for name, row in zip(found.classes, found.confusion, strict=True)],
    )
    words = f"Accuracy {estimate(found.accuracy)}, log loss {found.log_loss:.4f}."
    return f"{words}\n\n{grid}"


def _groups(declaration: Declaration, assessment: Assessment | None) -> str:
    if not declaration.sensitive_features:
        return NO_GROUPS
    if assessment is None:
        return "Groups are declared and will be watched; without labels nothing about them could be measured here."
    tables = group_tables(declaration, assessment.groups, assessment.gaps)
    if assessment.multiclass is None:
        return tables
    return f"{paragraph(f'All figures are about `{declaration.positive_class}` against all others.')}\n\n{tables}"
