"""What packaging found out, what it had to assume, and what it could not find: the part that a person should read."""

from dataclasses import dataclass, field


@dataclass
class Findings:
    """Collected while a model is understood; printed once, at the end, and repeated in the card.

    `understood` holds (subject, what was found). Every assumption names the option that overrules it.
    """

    understood: list[tuple[str, str]] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    not_found: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def understand(self, subject: str, found: str) -> None:
        """Note a fact that the graph, the data or an option settles."""
        self.understood.append((subject, found))

    def assume(self, sentence: str) -> None:
        """Note a choice that nothing settles."""
        self.assumed.append(sentence)

    def lack(self, sentence: str) -> None:
        """Note something useful that is not there."""
        self.not_found.append(sentence)

    def warn(self, sentence: str) -> None:
        """Note something that makes the package worth less than it could be."""
        self.warnings.append(sentence)


def listed(names: list[str], most: int = 8) -> str:
    """`a, b, c` in backquotes, shortened to `most` with how many more there are."""
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
