"""Progression: will a diabetes patient's disease progress markedly within a year."""
