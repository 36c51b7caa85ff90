"""The fairness report as a page for people: words, plots and templates. Knows the JSON of the report alone."""
