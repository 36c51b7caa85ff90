"""Diagnosis: is a breast mass malignant, by the cell nuclei of a fine-needle aspirate."""
