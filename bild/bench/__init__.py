"""The engine bench: engines and peers beside one another, against the machine's roofline."""
