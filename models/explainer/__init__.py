"""Compiles SHAP into ONNX, once and offline: `explainer.onnx` answers with values, base values and error bars."""
