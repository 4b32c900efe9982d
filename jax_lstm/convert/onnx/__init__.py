"""ONNX's LSTM: nodes, models and files."""
