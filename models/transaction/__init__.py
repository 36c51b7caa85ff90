"""Transaction: is a card payment fraudulent."""
