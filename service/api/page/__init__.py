"""The reports as pages for people: words, plots and templates. Knows the JSON of the reports alone."""
